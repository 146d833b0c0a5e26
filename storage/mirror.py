"""Shards → registry: vectors become BLOB rows, and every shard on disk becomes known."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from storage.errors import ShardError
from storage.names import vector_table
from storage.registry import Registry
from storage.shards import NO_FEATURES, Shard, digest_of, list_shards, read_shard, shard_path, write_shard

# A library of N vectors keeps at most N / 1,000 + 50 shard files.
VECTORS_PER_SHARD = 1_000
SPARE_SHARDS = 50
# Merging holds one merged shard in memory.
MERGED_VECTORS = 4_096

logger = logging.getLogger(__name__)


def adopt_shards(registry: Registry, shards_dir: Path) -> int:
    """Mirror every verified shard that the registry does not know; return how many vectors came in.

    A damaged shard is moved aside (`.damaged`), so that what it held is pending again.
    """
    return mirror_shards(registry, shards_dir, unknown_shards(registry, shards_dir))


def unknown_shards(registry: Registry, shards_dir: Path) -> list[Path]:
    """List the shards on disk that the registry does not know: a killed ingest or a restored registry leaves some."""
    known = set(registry.shard_paths())
    return [path for path in list_shards(shards_dir) if str(path.relative_to(shards_dir)) not in known]


def mirror_shards(registry: Registry, shards_dir: Path, paths: Iterable[Path]) -> int:
    """Verify shards and copy them into the registry, one transaction a shard; return how many vectors came in."""
    mirrored = 0
    modalities = registry.fingerprints()
    for path in paths:
        shard = read_or_set_aside(path)
        if shard is None or shard.fingerprint not in modalities:
            continue  # damaged, or of a model that this registry has never used
        with registry.transaction():
            _mirror(registry, str(path.relative_to(shards_dir)), path.stat().st_size, shard)
        mirrored += len(shard.content_hashes)
    return mirrored


def mirror_again(registry: Registry, shards_dir: Path, path: Path) -> None:
    """Put what a shard holds in place of what the registry has of its contents."""
    shard = read_shard(path)
    with registry.transaction():
        registry.forget_vectors(shard.modality, shard.fingerprint, shard.content_hashes)
        _mirror(registry, str(path.relative_to(shards_dir)), path.stat().st_size, shard)


def wants_merge(registry: Registry, fingerprint: str) -> bool:
    """Whether there are more shard files than N / 1,000 + 50."""
    shards = registry.shard_sizes(fingerprint)
    return len(shards) > _allowed(shards)


def merge_small_shards(registry: Registry, shards_dir: Path, modality: str, fingerprint: str) -> int:
    """Merge the smallest shards while there are more than N / 1,000 + 50 of them; return how many files went.

    The merged shard is on disk and known before its parts go, so a crash in between costs nothing but the parts'
    space until the next merge.
    """
    shards = registry.shard_sizes(fingerprint)
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
                registry.forget_shards(path for path, _ in parts)
            removed += len(parts)
            continue
        merged = _merge(readable)
        path = shard_path(shards_dir, modality, fingerprint, digest_of(fingerprint, merged.content_hashes))
        write_shard(path, merged)
        name = str(path.relative_to(shards_dir))
        old = [part for part, _ in parts if part != name]
        with registry.transaction():
            registry.forget_shards(old)
            registry.record_shard(name, merged, path.stat().st_size)
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


def _allowed(shards: list[tuple[str, int]]) -> int:
    return sum(vectors for _, vectors in shards) // VECTORS_PER_SHARD + SPARE_SHARDS


def _mirror(registry: Registry, name: str, size: int, shard: Shard) -> None:
    connection = registry.connection
    connection.executemany(
        f"""INSERT OR IGNORE INTO {vector_table(shard.modality)} (image_id, fingerprint, vector)
            SELECT id, ?, ? FROM images WHERE content_hash = ?""",
        (
            (shard.fingerprint, vector.astype("<f4").tobytes(), content_hash)
            for content_hash, vector in zip(shard.content_hashes, shard.vectors, strict=True)
        ),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO vector_failures VALUES (?, ?, ?, ?)",
        ((failure.content_hash, shard.fingerprint, failure.status, failure.reason) for failure in shard.failures),
    )
    registry.mark_failed(
        (failure.content_hash, failure.status, failure.reason)
        for failure in shard.failures
        if failure.status != NO_FEATURES
    )
    registry.record_shard(name, shard, size)


def _merge(shards: list[Shard]) -> Shard:
    rows = {
        content_hash: vector
        for shard in shards
        for content_hash, vector in zip(shard.content_hashes, shard.vectors, strict=True)
    }
    failures = {failure.content_hash: failure for shard in shards for failure in shard.failures}
    return Shard(
        modality=shards[0].modality,
        fingerprint=shards[0].fingerprint,
        content_hashes=tuple(rows),
        vectors=np.stack(list(rows.values())) if rows else shards[0].vectors[:0],
        failures=tuple(failures.values()),
    )
