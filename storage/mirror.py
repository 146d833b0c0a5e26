"""Shards → registry: vectors become BLOB rows, and every shard on disk becomes known."""

import logging
import os
from collections.abc import Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path

import numpy as np

from imgrec.storage.errors import ShardError
from imgrec.storage.machine.times import storable
from imgrec.storage.names import vector_table
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.shard_rows import (
    forget_shards,
    outcomes_outside,
    record_shard,
    shard_files,
    shard_fingerprints,
    shard_sizes,
)
from imgrec.storage.shards import (
    OF_ONE_MODALITY,
    Shard,
    digest_of,
    list_shards,
    read_contents,
    read_shard,
    shard_path,
    write_shard,
)

# A library of N vectors keeps at most N / 1,000 + 50 shard files.
VECTORS_PER_SHARD = 1_000
SPARE_SHARDS = 50
# Merging holds one merged shard in memory.
MERGED_VECTORS = 4_096

logger = logging.getLogger(__name__)


def are_settled(registry: Registry, shards_dir: Path) -> bool:
    """Whether the shards on disk are those that the registry knows, as it knows them."""
    on_disk = {str(path.relative_to(shards_dir)): _stamp(path) for path in list_shards(shards_dir)}
    return on_disk == shard_files(registry)


def adopt_shards(registry: Registry, shards_dir: Path) -> int:
    """Settle what differs between the disk and the registry; return how many vectors came in.

    A killed ingest or a restored registry leaves shards that the registry does not know: what verifies is mirrored. A
    file that changed since it was verified is verified again. What is damaged is moved aside (`.damaged`); it and what
    is gone are written anew from the registry's BLOBs, or else pending again.
    """
    on_disk = {str(path.relative_to(shards_dir)): path for path in list_shards(shards_dir)}
    known = shard_files(registry)
    lost = known.keys() - on_disk.keys()
    came_in = mirror_shards(registry, shards_dir, unknown_shards(registry, shards_dir))
    changed = [on_disk[name] for name in known.keys() & on_disk.keys() if known[name] != _stamp(on_disk[name])]
    mirror_shards(registry, shards_dir, changed)
    lost |= {str(path.relative_to(shards_dir)) for path in changed if not path.exists()}  # moved aside just now
    for fingerprint in shard_fingerprints(registry, lost):
        _write_anew(registry, shards_dir, fingerprint, lost)
    with registry.transaction():  # of the same contents, the new one has the old one's name
        forget_shards(registry, (name for name in lost if not (shards_dir / name).exists()))
    return came_in


def unknown_shards(registry: Registry, shards_dir: Path) -> list[Path]:
    """List the shards on disk that the registry does not know."""
    known = shard_files(registry)
    return [path for path in list_shards(shards_dir) if str(path.relative_to(shards_dir)) not in known]


def mirror_shards(registry: Registry, shards_dir: Path, paths: Iterable[Path]) -> int:
    """Verify shards and copy them into the registry, one transaction a shard; return how many vectors came in."""
    mirrored = 0
    modalities = registry.fingerprints()
    for path, shard in _read_ahead(paths):
        if shard is None or shard.fingerprint not in modalities:
            continue  # damaged, or of a model that this registry has never used
        with registry.transaction():
            _mirror(registry, str(path.relative_to(shards_dir)), path.stat(), shard)
        mirrored += len(shard.content_hashes)
    return mirrored


def mirror_again(registry: Registry, shards_dir: Path, path: Path) -> None:
    """Put what a shard holds in place of what the registry has of its contents."""
    shard = read_shard(path)
    with registry.transaction():
        registry.forget_vectors(shard.modality, shard.fingerprint, shard.content_hashes)
        _mirror(registry, str(path.relative_to(shards_dir)), path.stat(), shard)


def wants_merge(registry: Registry, fingerprint: str) -> bool:
    """Whether there are more shard files than N / 1,000 + 50."""
    shards = shard_sizes(registry, fingerprint)
    return len(shards) > _allowed(shards)


def merge_small_shards(registry: Registry, shards_dir: Path, modality: str, fingerprint: str) -> int:
    """Merge the smallest shards while there are more than N / 1,000 + 50 of them; return how many files went.

    The merged shard is on disk and known before its parts go, so a crash in between costs nothing but the parts'
    space until the next merge.
    """
    shards = shard_sizes(registry, fingerprint)
    allowed = _allowed(shards)
    removed = 0
    while len(shards) > allowed:
        shards.sort(key=lambda shard: shard[1])
        parts = [shards.pop(0)]
        while shards and sum(part[1] for part in parts) + shards[0][1] <= MERGED_VECTORS:
            parts.append(shards.pop(0))
        if len(parts) < 2:
            break
        readable = [shard for path, _ in parts if (shard := read_or_set_aside(shards_dir / path)) is not None]
        if not readable:
            with registry.transaction():
                forget_shards(registry, (path for path, _ in parts))
            removed += len(parts)
            continue
        merged = _merge(readable)
        path = shard_path(shards_dir, modality, fingerprint, digest_of(fingerprint, merged.content_hashes))
        write_shard(path, merged)
        name = str(path.relative_to(shards_dir))
        old = [part for part, _ in parts if part != name]
        with registry.transaction():
            forget_shards(registry, old)
            record_shard(registry, name, merged, path.stat())
        for part in old:
            (shards_dir / part).unlink(missing_ok=True)
        removed += len(old)
        shards.append((name, len(merged.content_hashes)))
    return removed


def read_or_set_aside(path: Path) -> Shard | None:
    """Read a shard; a damaged one is renamed to `.damaged`; what only it held is pending again."""
    try:
        return read_shard(path)
    except ShardError as error:
        logger.warning("%s: set aside", error)
        if path.exists():
            path.replace(path.with_suffix(".damaged"))
        return None


def _read_ahead(paths: Iterable[Path]) -> Iterator[tuple[Path, Shard | None]]:
    """Read and verify the next shard while SQLite writes this one: neither needs Python's lock for long."""
    with ThreadPoolExecutor(1, thread_name_prefix="imgrec-mirror") as thread:
        before = None
        for path in paths:
            ahead = path, thread.submit(read_or_set_aside, path)
            if before is not None:
                yield before[0], before[1].result()
            before = ahead
        if before is not None:
            yield before[0], before[1].result()


def _stamp(path: Path) -> tuple[int, int]:
    """What changes with a file's content, however it is changed."""
    status = path.stat()
    return status.st_size, storable(status.st_ctime_ns)


def _write_anew(registry: Registry, shards_dir: Path, fingerprint: str, lost: Set[str]) -> None:
    """Write what the lost shards of a fingerprint held, as far as the registry has it."""
    left = [shards_dir / path for path, _ in shard_sizes(registry, fingerprint) if path not in lost]
    held = chain.from_iterable(chain(*read_contents(path)) for path in left)
    ids, failures = outcomes_outside(registry, fingerprint, held)
    modality, dim = registry.fingerprints()[fingerprint], registry.dim(fingerprint) or 0
    for start in range(0, max(len(ids), 1), MERGED_VECTORS):
        some = ids[start : start + MERGED_VECTORS]
        contents, vectors = registry.content_hashes(some), registry.vectors(modality, fingerprint, some)
        rows = np.stack([vectors[i] for i in some]) if some else np.empty((0, dim), np.float32)
        shard = Shard(modality, fingerprint, tuple(contents[i] for i in some), rows, () if start else tuple(failures))
        hashes = [*shard.content_hashes, *(failure.content_hash for failure in shard.failures)]
        if hashes:
            path = shard_path(shards_dir, modality, fingerprint, digest_of(fingerprint, hashes))
            write_shard(path, shard)
            mirror_shards(registry, shards_dir, [path])
    logger.warning("%d vectors of lost %s shards were written anew", len(ids), modality)


def _allowed(shards: list[tuple[str, int]]) -> int:
    return sum(vectors for _, vectors in shards) // VECTORS_PER_SHARD + SPARE_SHARDS


def _mirror(registry: Registry, name: str, file: os.stat_result, shard: Shard) -> None:
    connection = registry.connection
    connection.executemany(
        f"""INSERT OR IGNORE INTO {vector_table(shard.modality)} (image_id, fingerprint, vector)
            SELECT id, ?, ? FROM images WHERE content_hash = ?""",
        zip(repeat(shard.fingerprint), _blobs(shard), shard.content_hashes),
    )
    registry.clear_failures(shard.fingerprint, shard.content_hashes)
    outcome = (shard.modality, shard.fingerprint)
    failures = [failure for failure in shard.failures if not registry.has_vector(*outcome, failure.content_hash)]
    connection.executemany(
        "INSERT OR REPLACE INTO vector_failures VALUES (?, ?, ?, ?)",
        ((failure.content_hash, shard.fingerprint, failure.status, failure.reason) for failure in failures),
    )
    registry.mark_failed(
        (failure.content_hash, failure.status, failure.reason)
        for failure in failures
        if failure.status not in OF_ONE_MODALITY
    )
    record_shard(registry, name, shard, file)


def _blobs(shard: Shard) -> Iterator[bytes]:
    """The vectors as the registry keeps them, little-endian float32."""
    data = np.ascontiguousarray(shard.vectors, "<f4").tobytes()
    size = 4 * shard.vectors.shape[1]
    return (data[start : start + size] for start in range(0, len(data), size))


def _merge(shards: list[Shard]) -> Shard:
    rows = {
        content_hash: vector
        for shard in shards
        for content_hash, vector in zip(shard.content_hashes, shard.vectors, strict=True)
    }
    failures = {
        failure.content_hash: failure
        for shard in shards
        for failure in shard.failures
        if failure.content_hash not in rows
    }
    return Shard(
        modality=shards[0].modality,
        fingerprint=shards[0].fingerprint,
        content_hashes=tuple(rows),
        vectors=np.stack(list(rows.values())) if rows else shards[0].vectors[:0],
        failures=tuple(failures.values()),
    )
