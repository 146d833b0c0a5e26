"""Checks of shards against the registry, and of both against each other. Each yields one kind of finding."""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from imgrec.search.upkeep.findings import CheckedLibrary, Finding
from imgrec.storage.errors import ShardError
from imgrec.storage.mirror import MERGED_VECTORS, mirror_again, mirror_shards, read_or_set_aside, unknown_shards
from imgrec.storage.names import vector_table
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.shard_rows import forget_shards, record_shard, shard_checksums, shard_files, shard_sizes
from imgrec.storage.registry.sql import LIVE
from imgrec.storage.shards import Shard, digest_of, read_contents, read_shard, shard_path, write_shard

# Unless all are asked for, vectors in the registry are compared with those of this many shards.
SAMPLED_SHARDS = 16
NORM_TOLERANCE = 1e-3


def check_shard_files(checked: CheckedLibrary) -> Iterator[Finding]:
    """Every shard that the registry lists is there, whole, and the one that was listed."""
    registry, shards_dir = checked.registry, checked.library.shards_dir
    for name, checksum in shard_checksums(registry):
        path = shards_dir / name
        forget = partial(_forget_shard, registry, shards_dir, name)
        if not path.is_file():
            remedy = "forgets it; what only it held is written anew from the registry"
            yield Finding("shards.missing", f"shard {path} is gone", remedy, forget)
            continue
        try:
            shard = read_shard(path)
        except ShardError as error:
            remedy = "sets it aside as .damaged; what only it held is written anew from the registry"
            yield Finding("shards.damaged", str(error), remedy, forget)
            continue
        if shard.checksum != checksum:
            remedy = "takes its vectors into the registry"
            fix = partial(mirror_again, registry, shards_dir, path)
            yield Finding("shards.replaced", f"shard {path} is another one than the registry lists", remedy, fix)
        if not _are_valid(shard, registry.dim(shard.fingerprint)):
            remedy = "sets it aside and forgets its vectors; `imgrec ingest` computes them"
            fix = partial(_discard_shard, registry, shards_dir, name, shard)
            yield Finding("shards.invalid", f"shard {path} holds vectors of a wrong dimension or length", remedy, fix)


def check_unknown_shards(checked: CheckedLibrary) -> Iterator[Finding]:
    """The registry lists every shard; it may be one of yesterday, restored."""
    registry, shards_dir = checked.registry, checked.library.shards_dir
    fingerprints = registry.fingerprints()
    unknown = [path for path in unknown_shards(registry, shards_dir) if path.parent.name in fingerprints]
    if unknown:
        # A shard is adopted once. One with contents that no scan has seen would be adopted for nothing.
        complete = [path for path in unknown if _is_scanned(registry, path)]
        yield Finding(
            "shards.unknown",
            f"{len(unknown):,} shards are not in the registry, which may be older than they are",
            "adopts them" if complete else "run `imgrec ingest`, which scans the photos first and then adopts them",
            partial(mirror_shards, registry, shards_dir, complete) if complete else None,
        )


def check_mirror(checked: CheckedLibrary) -> Iterator[Finding]:
    """The registry holds the vectors of the shards, byte by byte. A sample of the shards, if nothing is wrong there."""
    registry, shards_dir = checked.registry, checked.library.shards_dir
    names = list(shard_files(registry))
    random.shuffle(names)
    found = False
    for number, name in enumerate(names):
        if number == SAMPLED_SHARDS and not (found or checked.thorough):
            return
        try:
            shard = read_shard(shards_dir / name)
        except ShardError:
            continue  # `check_shard_files` tells
        differing, lost = _compare(registry, shard)
        if differing or lost:
            found = True
            yield Finding(
                "vectors.differ",
                f"of the vectors of shard {name}, {differing:,} are others in the registry and {lost:,} are not there",
                "copies them from the shard, whose checksum holds",
                partial(mirror_again, registry, shards_dir, shards_dir / name),
            )


def check_unsharded(checked: CheckedLibrary) -> Iterator[Finding]:
    """Every vector of the registry is in a shard too."""
    registry, shards_dir = checked.registry, checked.library.shards_dir
    for fingerprint, modality in registry.fingerprints().items():
        count = _list_unsharded(registry, shards_dir, modality, fingerprint)
        if count:
            yield Finding(
                "vectors.unsharded",
                f"{count:,} {modality} vectors ({fingerprint}) are in the registry and in no shard",
                "writes shards of them; any that are not sound are forgotten, and `imgrec ingest` computes them",
                partial(_write_unsharded, registry, shards_dir, modality, fingerprint),
            )


def _forget_shard(registry: Registry, shards_dir: Path, name: str) -> None:
    if (shards_dir / name).is_file():
        read_or_set_aside(shards_dir / name)
    with registry.transaction():
        forget_shards(registry, [name])


def _discard_shard(registry: Registry, shards_dir: Path, name: str, shard: Shard) -> None:
    with registry.transaction():
        forget_shards(registry, [name])
        registry.forget_vectors(shard.modality, shard.fingerprint, shard.content_hashes)
    path = shards_dir / name
    path.replace(path.with_suffix(".damaged"))


def _are_valid(shard: Shard, dim: int | None) -> bool:
    vectors = shard.vectors
    if dim is None or not len(vectors):
        return True
    norms = np.linalg.norm(vectors, axis=1)
    return vectors.shape[1] == dim and bool((np.abs(norms - 1) < NORM_TOLERANCE).all())


def _is_scanned(registry: Registry, path: Path) -> bool:
    """Whether the registry has an image for every content of a shard; damaged ones are adopted too, and set aside."""
    try:
        hashes = read_contents(path).embedded
    except ShardError:
        return True
    known: set[bytes] = set()
    for some in _slices(hashes):
        marks = ",".join("?" * len(some))
        rows = registry.connection.execute(f"SELECT content_hash FROM images WHERE content_hash IN ({marks})", some)
        known.update(row[0] for row in rows)
    return known.issuperset(hashes)


def _compare(registry: Registry, shard: Shard) -> tuple[int, int]:
    """Count the contents of a shard whose vector in the registry is another one, and those that have none."""
    differing: set[bytes] = set()
    found: set[bytes] = set()
    live: set[bytes] = set()
    place = {content_hash: row for row, content_hash in enumerate(shard.content_hashes)}
    for some in _slices(shard.content_hashes):
        marks = ",".join("?" * len(some))
        rows = registry.connection.execute(
            f"""SELECT content_hash, vector FROM images
                JOIN {vector_table(shard.modality)} ON image_id = id AND fingerprint = ?
                WHERE content_hash IN ({marks})""",
            (shard.fingerprint, *some),
        )
        for content_hash, vector in rows:
            found.add(content_hash)
            if vector != shard.vectors[place[content_hash]].astype("<f4").tobytes():
                differing.add(content_hash)
        rows = registry.connection.execute(
            f"SELECT content_hash FROM images WHERE {LIVE} AND content_hash IN ({marks})", some
        )
        live.update(row[0] for row in rows)
    return len(differing), len(live - found)


def _list_unsharded(registry: Registry, shards_dir: Path, modality: str, fingerprint: str) -> int:
    """Put the contents that have this vector in the registry and in no listed shard into a temporary table."""
    run = registry.connection.execute
    run("CREATE TEMP TABLE IF NOT EXISTS sharded (content_hash BLOB PRIMARY KEY) WITHOUT ROWID")
    run("CREATE TEMP TABLE IF NOT EXISTS unsharded (content_hash BLOB PRIMARY KEY, image_id INTEGER) WITHOUT ROWID")
    run("DELETE FROM temp.sharded")
    run("DELETE FROM temp.unsharded")
    for name, _ in shard_sizes(registry, fingerprint):
        try:
            hashes = read_contents(shards_dir / name).embedded
        except ShardError:
            continue  # `check_shard_files` tells
        registry.connection.executemany("INSERT OR IGNORE INTO temp.sharded VALUES (?)", ((h,) for h in hashes))
    run(
        f"""INSERT INTO temp.unsharded SELECT content_hash, min(image_id)
            FROM {vector_table(modality)} JOIN images ON id = image_id
            WHERE fingerprint = ? AND content_hash IS NOT NULL
            AND content_hash NOT IN (SELECT content_hash FROM temp.sharded) GROUP BY content_hash""",
        (fingerprint,),
    )
    return int(run("SELECT count(*) FROM temp.unsharded").fetchone()[0])


def _write_unsharded(registry: Registry, shards_dir: Path, modality: str, fingerprint: str) -> None:
    _list_unsharded(registry, shards_dir, modality, fingerprint)
    last = b""
    while part := registry.connection.execute(
        f"""SELECT content_hash, vector FROM temp.unsharded JOIN {vector_table(modality)} USING (image_id)
            WHERE fingerprint = ? AND content_hash > ? ORDER BY content_hash LIMIT {MERGED_VECTORS}""",
        (fingerprint, last),
    ).fetchall():
        last = part[-1][0]
        sound = {h: np.frombuffer(v, "<f4") for h, v in part if _is_sound(v, registry.dim(fingerprint))}
        with registry.transaction():
            registry.forget_vectors(modality, fingerprint, [h for h, _ in part if h not in sound])
            if sound:
                shard = Shard(modality, fingerprint, tuple(sound), np.stack(list(sound.values())))
                path = shard_path(shards_dir, modality, fingerprint, digest_of(fingerprint, shard.content_hashes))
                write_shard(path, shard)
                record_shard(registry, str(path.relative_to(shards_dir)), shard, path.stat())


def _is_sound(blob: bytes, dim: int | None) -> bool:
    return len(blob) == 4 * (dim or 0) and abs(float(np.linalg.norm(np.frombuffer(blob, "<f4"))) - 1) < NORM_TOLERANCE


def _slices(hashes: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(hashes), 500):
        yield hashes[start : start + 500]
