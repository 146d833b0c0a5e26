"""What waits for vectors, as the registry and the shards that it knows say."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from imgrec.storage.photos.pending import Pending
from imgrec.storage.registry.changes import track
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.sql import LIVE, VALUES_PER_QUERY, lacks_outcome, marks_of, outside

_AT_ONCE = 8_192


class PendingGroup(NamedTuple):
    """Contents that wait for the same modalities: `images` of them, from position `start` of the pending list."""

    modalities: tuple[str, ...]
    start: int
    images: int


def list_pending(
    registry: Registry,
    fingerprints: Mapping[str, str],
    left_alone: Collection[str] = (),
    under_way: Mapping[str, Collection[bytes]] | None = None,
) -> list[PendingGroup]:
    """Put the contents that wait for vectors of these fingerprints (by modality) into a temporary list, but for those
    whose files are all in roots that are `left_alone`.

    Contents that are `under_way` in a modality do not wait for it. Groups contents by what they wait for, so that one
    decode serves all of it; inside a group they come in the order of image ids. The list stays as it is while vectors
    come in.
    """
    run = registry.connection.execute
    run("CREATE TEMP TABLE IF NOT EXISTS pending (position INTEGER PRIMARY KEY, image_id INTEGER, waiting INTEGER)")
    run("DELETE FROM temp.pending")
    _note_under_way(registry, fingerprints, under_way or {})
    if not fingerprints:
        return []
    track(registry, fingerprints)
    waiting = " + ".join(
        f"{lacks_outcome(modality, f'?{bit + 1}')} * {1 << bit}" for bit, modality in enumerate(fingerprints)
    )
    readable, edges = outside(left_alone)  # whose marks come after the numbered ones
    # LIMIT keeps SQLite from evaluating `waiting` once for every place where it stands.
    run(
        f"""INSERT INTO temp.pending (image_id, waiting)
            SELECT min(id), waiting FROM (
                SELECT id, content_hash,
                       ({waiting}) & ~coalesce((SELECT mask FROM temp.under_way WHERE content = content_hash), 0)
                           AS waiting
                FROM touched CROSS JOIN images ON images.id = touched.image_id
                WHERE {LIVE} AND content_hash IS NOT NULL AND {readable} LIMIT -1)
            WHERE waiting > 0 GROUP BY content_hash ORDER BY waiting, 1""",
        [*fingerprints.values(), *edges],
    )
    groups = run("SELECT waiting, min(position), count(*) FROM temp.pending GROUP BY waiting ORDER BY waiting")
    return [
        PendingGroup(tuple(name for bit, name in enumerate(fingerprints) if mask >> bit & 1), start, count)
        for mask, start, count in groups
    ]


def _note_under_way(
    registry: Registry, fingerprints: Mapping[str, str], under_way: Mapping[str, Collection[bytes]]
) -> None:
    run = registry.connection
    run.execute("CREATE TEMP TABLE IF NOT EXISTS under_way (content BLOB PRIMARY KEY, mask INTEGER) WITHOUT ROWID")
    run.execute("DELETE FROM temp.under_way")
    for bit, modality in enumerate(fingerprints):
        run.executemany(
            "INSERT INTO temp.under_way VALUES (?, ?) ON CONFLICT DO UPDATE SET mask = mask | excluded.mask",
            ((content, 1 << bit) for content in under_way.get(modality, ())),
        )


def read_pending(registry: Registry, start: int, count: int) -> list[Pending]:
    """Read `count` contents from position `start` of what `list_pending` listed."""
    rows = registry.connection.execute(
        """SELECT content_hash, path, raw_path, size, mtime_ns, ctime_ns
           FROM temp.pending JOIN images ON images.id = image_id
           WHERE position >= ? AND position < ? ORDER BY position""",
        (start, start + count),
    )
    return [_pending(row) for row in rows]


def contents_without(registry: Registry, modality: str, fingerprint: str, contents: Sequence[bytes]) -> list[bytes]:
    """Those of the contents that a live image has, without a vector of this fingerprint and a reason for that."""
    found: list[bytes] = []
    for start in range(0, len(contents), VALUES_PER_QUERY):
        some = contents[start : start + VALUES_PER_QUERY]
        lacking = lacks_outcome(modality, f"?{len(some) + 1}")
        live = f"content_hash IN ({marks_of(some)}) AND {LIVE}"
        rows = registry.connection.execute(
            f"SELECT DISTINCT content_hash FROM images WHERE {live} AND {lacking}", [*some, fingerprint]
        )
        found += [row[0] for row in rows]
    return found


def sample_contents(registry: Registry, count: int) -> list[Pending]:
    """Draw contents of live images by their hash: the same ones whatever was ingested first, or where."""
    rows = registry.connection.execute(
        f"""SELECT content_hash, path, raw_path, size, mtime_ns, ctime_ns FROM images
            WHERE id IN (SELECT min(id) FROM images WHERE {LIVE} AND content_hash IS NOT NULL
                         GROUP BY content_hash ORDER BY content_hash LIMIT ?)
            ORDER BY content_hash""",
        (count,),
    )
    return [_pending(row) for row in rows]


def live_contents(registry: Registry, ids: Sequence[int] | None = None) -> Iterator[list[Pending]]:
    """Yield the contents of live images, each once with one file that holds it, some thousands at a time.

    Of all images, in the order of their hashes, or of `ids`.
    """
    columns = "content_hash, path, raw_path, size, mtime_ns, ctime_ns"
    if ids is not None:
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            found = registry.connection.execute(
                f"SELECT {columns} FROM images WHERE id IN ({marks}) AND {LIVE} GROUP BY content_hash", some
            )
            yield [_pending(row) for row in found]
        return
    last: bytes = b""
    while rows := registry.connection.execute(
        f"""SELECT {columns} FROM images WHERE content_hash > ? AND {LIVE}
            GROUP BY content_hash ORDER BY content_hash LIMIT {_AT_ONCE}""",
        (last,),
    ).fetchall():
        last = rows[-1][0]
        yield [_pending(row) for row in rows]


def _pending(row: tuple[bytes, str, bytes | None, int, int, int]) -> Pending:
    content_hash, path, raw_path, *stat = row
    return Pending(content_hash, path if raw_path is None else os.fsdecode(raw_path), *stat)
