"""The table `shards`: which files hold what the registry has, and what they looked like."""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from imgrec.storage.errors import ShardError
from imgrec.storage.machine.times import storable
from imgrec.storage.names import vector_table
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import HASH_BYTES, Failure, Shard, read_contents


def shard_checksums(registry: Registry) -> list[tuple[str, str]]:
    """List the known shards: path and checksum."""
    return registry.connection.execute("SELECT path, checksum FROM shards ORDER BY path").fetchall()


def shard_sizes(registry: Registry, fingerprint: str) -> list[tuple[str, int]]:
    """List the known shards of a fingerprint: path and number of vectors."""
    rows = registry.connection.execute(
        "SELECT path, vectors FROM shards WHERE fingerprint = ? ORDER BY path", (fingerprint,)
    )
    return rows.fetchall()


def record_shard(registry: Registry, path: str, shard: Shard, file: os.stat_result) -> None:
    """Make a verified shard known, and what its file looked like."""
    registry.connection.execute(
        """INSERT OR REPLACE INTO shards
           (path, modality, fingerprint, checksum, vectors, bytes, verified_ctime_ns, failed)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            *(path, shard.modality, shard.fingerprint, shard.checksum, len(shard.content_hashes)),
            *(file.st_size, storable(file.st_ctime_ns), b"".join(failure.content_hash for failure in shard.failures)),
        ),
    )


def shards_with_failures(registry: Registry, shards_dir: Path, contents: Collection[bytes]) -> list[str]:
    """List the known shards that hold a failure of one of these contents.

    Shards that an older version recorded are read once, and noted.
    """
    unread = registry.connection.execute("SELECT path FROM shards WHERE failed IS NULL").fetchall()
    noted = [(failed, path) for (path,) in unread if (failed := _read_failed(shards_dir / path)) is not None]
    with registry.transaction():
        registry.connection.executemany("UPDATE shards SET failed = ? WHERE path = ?", noted)
    wanted = set(contents)
    rows = registry.connection.execute("SELECT path, failed FROM shards WHERE failed <> x'' ORDER BY path")
    return [path for path, failed in rows if not wanted.isdisjoint(_split(failed))]


def _read_failed(path: Path) -> bytes | None:
    try:
        return b"".join(read_contents(path).failed)
    except ShardError:
        return None  # the next look at the shards sets it aside


def _split(failed: bytes) -> Iterator[bytes]:
    for start in range(0, len(failed), HASH_BYTES):
        yield failed[start : start + HASH_BYTES]


def shard_files(registry: Registry) -> dict[str, tuple[int, int]]:
    """Map the paths of the known shards to size and ctime of their files, as they were when verified."""
    rows = registry.connection.execute("SELECT path, bytes, verified_ctime_ns FROM shards")
    return {path: (size, ctime_ns) for path, size, ctime_ns in rows}


def shard_fingerprints(registry: Registry, paths: Iterable[str]) -> set[str]:
    """The fingerprints of known shards."""
    rows = [registry.connection.execute("SELECT fingerprint FROM shards WHERE path = ?", (path,)) for path in paths]
    return {fingerprint for row in rows for (fingerprint,) in row}


def shard_bytes(registry: Registry) -> int:
    """Bytes of all known shards."""
    return int(registry.connection.execute("SELECT coalesce(sum(bytes), 0) FROM shards").fetchone()[0])


def outcomes_outside(registry: Registry, fingerprint: str, held: Iterable[bytes]) -> tuple[list[int], list[Failure]]:
    """Find what the registry knows and the contents `held` do not cover.

    Return an image id for every content with a vector, and the failures.
    """
    run = registry.connection.execute
    modality = registry.fingerprints()[fingerprint]
    run("DROP TABLE IF EXISTS temp.held")
    run("CREATE TEMP TABLE held (content_hash BLOB PRIMARY KEY) WITHOUT ROWID")
    registry.connection.executemany("INSERT OR IGNORE INTO held VALUES (?)", ((content,) for content in held))
    ids = run(
        f"""SELECT min(id) FROM images JOIN {vector_table(modality)} ON image_id = id
            WHERE fingerprint = ? AND content_hash NOT IN (SELECT content_hash FROM held)
            GROUP BY content_hash ORDER BY 1""",
        (fingerprint,),
    )
    failures = run(
        """SELECT content_hash, status, reason FROM vector_failures
           WHERE fingerprint = ? AND content_hash NOT IN (SELECT content_hash FROM held)""",
        (fingerprint,),
    )
    return [row[0] for row in ids], [Failure(*row) for row in failures]


def forget_shards(registry: Registry, paths: Iterable[str]) -> None:
    registry.connection.executemany("DELETE FROM shards WHERE path = ?", ((path,) for path in paths))
