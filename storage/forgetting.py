"""Forget photos for good: their rows, their vectors, and what shards hold of them."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from imgrec.storage.mirror import read_or_set_aside
from imgrec.storage.names import vector_table
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.shard_rows import forget_shards, record_shard, shard_files
from imgrec.storage.shards import Shard, digest_of, shard_path, write_shard

_LONG_MISSING = "missing_since < ?"


def count_long_missing(registry: Registry, days: float) -> tuple[int, int]:
    """Count the photos that have been missing for more than `days`, and the bytes of their vectors, shards included."""
    since = _since(days)
    count = registry.connection.execute(f"SELECT count(*) FROM images WHERE {_LONG_MISSING}", (since,)).fetchone()[0]
    size = 0
    for modality in registry.modalities():
        size += registry.connection.execute(
            f"""SELECT coalesce(sum(length(vector)), 0) FROM {vector_table(modality)}
                JOIN images ON images.id = image_id WHERE {_LONG_MISSING}""",
            (since,),
        ).fetchone()[0]
    return int(count), 2 * int(size)


def forget_long_missing(registry: Registry, shards_dir: Path, days: float) -> None:
    """Forget the photos that have been missing for more than `days`, as if they had never been there.

    Shards first: killed in between, the next call finds the same photos and goes on. Their ids are never given again,
    so rows of index files that still name them, as dead ones, do no harm.
    """
    since = _since(days)
    contents = {
        row[0]
        for row in registry.connection.execute(
            f"""SELECT content_hash FROM images WHERE {_LONG_MISSING} AND content_hash IS NOT NULL
                EXCEPT SELECT content_hash FROM images WHERE NOT coalesce({_LONG_MISSING}, 0)""",
            (since, since),
        )
    }
    if contents:
        for path in list(shard_files(registry)):
            forget_in_shard(registry, shards_dir, path, contents, contents)
    gone = f"SELECT id FROM images WHERE {_LONG_MISSING}"
    with _unchecked(registry), registry.transaction():
        run = registry.connection.execute
        for modality in registry.modalities():
            run(f"DELETE FROM {vector_table(modality)} WHERE image_id IN ({gone})", (since,))
        run(f"DELETE FROM index_rows WHERE image_id IN ({gone})", (since,))
        registry.connection.executemany(
            "DELETE FROM vector_failures WHERE content_hash = ?", ((content,) for content in contents)
        )
        run(f"DELETE FROM images WHERE {_LONG_MISSING}", (since,))


def forget_in_shard(
    registry: Registry, shards_dir: Path, name: str, vectors: Collection[bytes], failures_of: Collection[bytes]
) -> None:
    """Write a shard anew without the vectors of some contents and the failures of some, if it has any."""
    shard = read_or_set_aside(shards_dir / name)
    if shard is None:
        return
    kept = np.array([content_hash not in vectors for content_hash in shard.content_hashes], bool)
    failures = tuple(failure for failure in shard.failures if failure.content_hash not in failures_of)
    if kept.all() and len(failures) == len(shard.failures):
        return
    hashes = tuple(content_hash for content_hash, keep in zip(shard.content_hashes, kept, strict=True) if keep)
    rest = Shard(shard.modality, shard.fingerprint, hashes, shard.vectors[kept], failures)
    digest = digest_of(rest.fingerprint, [*hashes, *(failure.content_hash for failure in failures)])
    path = shard_path(shards_dir, rest.modality, rest.fingerprint, digest)
    if hashes or failures:
        write_shard(path, rest)
    with registry.transaction():
        forget_shards(registry, [name])
        if hashes or failures:
            record_shard(registry, str(path.relative_to(shards_dir)), rest, path.stat())
    (shards_dir / name).unlink()


@contextmanager
def _unchecked(registry: Registry) -> Iterator[None]:
    """Leave foreign keys to us: for every image that goes, SQLite would look through all of `index_rows`."""
    registry.connection.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        registry.connection.execute("PRAGMA foreign_keys = ON")


def _since(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()
