"""Which images changed since the indexes were last brought in step, so that an ingest need not look at all the others.

`touched`               ids of images whose row, vectors or reasons for none changed. Triggers write them down.
`fingerprints.tracked`  whether triggers do so for vectors of this fingerprint. Then every live image that is not
                        touched has such a vector, or a reason for none.
`in_step`               the version of an index that answers with just the right images, as far as they are not touched.

All three speak of one state of the registry and are in it, so an older copy that is restored is right about itself: an
index of which it knows another version is compared with all images. So is one some of whose vectors are not tracked.
A touched image is judged by what it is now, so it does no harm to judge it twice.
"""

from collections.abc import Collection, Iterable, Mapping

from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.sql import LIVE, lacks_outcome


def track(registry: Registry, fingerprints: Mapping[str, str]) -> None:
    """Follow the vectors of these fingerprints (by modality) from now on; all images are looked at for new ones."""
    new = {name: value for name, value in fingerprints.items() if not are_tracked(registry, [value])}
    if not new:
        return
    with registry.transaction():
        registry.connection.execute(
            f"INSERT OR IGNORE INTO touched SELECT id FROM images WHERE {LIVE} AND ({_waiting(new)})",
            list(new.values()),
        )
        registry.connection.executemany(
            "UPDATE fingerprints SET tracked = 1 WHERE fingerprint = ?", ((value,) for value in new.values())
        )


def are_tracked(registry: Registry, fingerprints: Iterable[str]) -> bool:
    """Whether what is not touched has an outcome for each of these fingerprints."""
    rows = registry.connection.execute("SELECT fingerprint FROM fingerprints WHERE tracked")
    return {row[0] for row in rows}.issuperset(fingerprints)


def is_in_step(registry: Registry, index_name: str, version: str, fingerprints: Iterable[str]) -> bool:
    """Whether this version of an index of these fingerprints is right about all images that are not touched."""
    row = registry.connection.execute("SELECT version FROM in_step WHERE index_name = ?", (index_name,)).fetchone()
    return row == (version,) and are_tracked(registry, fingerprints)


def settle(
    registry: Registry, fingerprints: Mapping[str, str], in_step: Mapping[str, tuple[str, Collection[str]]]
) -> None:
    """Note which versions of indexes are right about all images: (version, fingerprints) by name of the index.

    Only images that wait for a vector of `fingerprints` (by modality) stay touched; others are no longer followed.
    """
    run = registry.connection.execute
    with registry.transaction():
        marks = ",".join("?" * len(fingerprints))
        run(
            f"UPDATE fingerprints SET tracked = 0 WHERE tracked AND fingerprint NOT IN ({marks})",
            [*fingerprints.values()],
        )
        tracked = {name: value for name, value in fingerprints.items() if are_tracked(registry, [value])}
        run(
            f"""DELETE FROM touched WHERE image_id NOT IN (
                  SELECT id FROM touched AS t CROSS JOIN images ON images.id = t.image_id
                  WHERE {LIVE} AND ({_waiting(tracked)}))""",
            list(tracked.values()),
        )
        run("DELETE FROM in_step")
        versions = [(name, version) for name, (version, needed) in in_step.items() if are_tracked(registry, needed)]
        registry.connection.executemany("INSERT INTO in_step VALUES (?, ?)", versions)


def look_at_all(registry: Registry) -> None:
    """Let the next ingest compare all images with all indexes."""
    with registry.transaction():
        registry.connection.execute("UPDATE fingerprints SET tracked = 0")
        registry.connection.execute("DELETE FROM in_step")


def _waiting(fingerprints: Mapping[str, str]) -> str:
    """SQL that says whether a row of `images` waits for a vector of one of these, which are the query's values."""
    return " OR ".join(lacks_outcome(modality, f"?{place}") for place, modality in enumerate(fingerprints, 1)) or "0"
