"""The SQLite registry: which images there are, and what is known of them."""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.errors import LibraryFormatError, LibraryNotFoundError
from storage.filesystems import allows_wal
from storage.migrations import check_not_newer, migrate, schema_version
from storage.names import vector_table
from storage.shards import Failure, Shard

# An image that is there, could be read, and so takes part in indexes.
LIVE = "status = 'ok' AND missing_since IS NULL"
_VALUES_PER_QUERY = 500
# How long another program may hold the registry before a run gives up.
BUSY_TIMEOUT_S = 60
# Readers map the registry instead of copying its pages.
READER_MMAP_BYTES = 2**32


@dataclass(frozen=True)
class ImageRow:
    """One image for people and programs; `path` is printable, `raw_path` opens the file."""

    id: int
    path: str
    raw_path: bytes | None
    status: str
    reason: str | None

    @property
    def file_path(self) -> str:
        return self.path if self.raw_path is None else os.fsdecode(self.raw_path)


class Pending(NamedTuple):
    """A content without a vector, and one file that holds it."""

    content_hash: bytes
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int


class PendingGroup(NamedTuple):
    """Contents that wait for the same modalities: `images` of them, from position `start` of the pending list."""

    modalities: tuple[str, ...]
    start: int
    images: int


class Registry:
    """All reading and writing of registry.sqlite outside of a scan.

    Writers hold the library's lock; readers may come at any time.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    @classmethod
    @contextmanager
    def open_for_writing(cls, path: Path) -> Iterator["Registry"]:
        connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        try:
            with _naming_damage(path):
                connection.execute(f"PRAGMA journal_mode = {'WAL' if allows_wal(path.parent) else 'DELETE'}")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA foreign_keys = ON")
                migrate(connection, path)
                yield cls(connection)
        finally:
            connection.close()

    @classmethod
    @contextmanager
    def open_for_reading(cls, path: Path) -> Iterator["Registry"]:
        if not path.is_file():
            raise LibraryNotFoundError(f"{path} is not there: `imgrec ingest` makes it")
        # On a read-only file system SQLite cannot make the files that it reads a write-ahead log with.
        frozen = os.statvfs(path).f_flag & os.ST_RDONLY and not path.with_name(f"{path.name}-wal").exists()
        uri = f"{path.resolve().as_uri()}?{'immutable=1' if frozen else 'mode=ro'}"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
        try:
            with _naming_damage(path):
                check_not_newer(connection, path)
                if schema_version(connection) == 0:
                    raise LibraryNotFoundError(f"{path} is empty: run `imgrec ingest` again")
                connection.execute(f"PRAGMA mmap_size = {READER_MMAP_BYTES}")
                yield cls(connection)
        finally:
            connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    # Images

    def count_images(self) -> dict[str, int]:
        """Count images that are ok, failed and missing."""
        row = self.connection.execute(
            """SELECT coalesce(sum(missing_since IS NULL AND status = 'ok'), 0),
                      coalesce(sum(missing_since IS NULL AND status <> 'ok'), 0),
                      coalesce(sum(missing_since IS NOT NULL), 0) FROM images"""
        ).fetchone()
        return dict(zip(("ok", "failed", "missing"), row, strict=True))

    def failures(self) -> Iterator[ImageRow]:
        """Yield the images that are there and cannot be used."""
        rows = self.connection.execute(
            """SELECT id, path, raw_path, status, reason FROM images
               WHERE missing_since IS NULL AND status <> 'ok' ORDER BY id"""
        )
        yield from (ImageRow(*row) for row in rows)

    def count_failures(self) -> dict[str, int]:
        """Count the failed images by status."""
        rows = self.connection.execute(
            "SELECT status, count(*) FROM images WHERE missing_since IS NULL AND status <> 'ok' GROUP BY status"
        )
        return dict(rows.fetchall())

    def images(self, ids: Sequence[int]) -> dict[int, ImageRow]:
        """Return the rows of `ids`; ids that are unknown are left out."""
        found = {}
        for some in _slices(ids):
            rows = self.connection.execute(
                f"SELECT id, path, raw_path, status, reason FROM images WHERE id IN ({_marks(some)})", some
            )
            found.update({row[0]: ImageRow(*row) for row in rows})
        return found

    def paths(self, ids: Iterable[int]) -> dict[int, tuple[str, str]]:
        """Map ids to their path, as it is printed and as it is opened; ids that are unknown are left out."""
        found = {}
        for some in _slices(list(ids)):
            rows = self.connection.execute(f"SELECT id, path, raw_path FROM images WHERE id IN ({_marks(some)})", some)
            for image_id, path, raw in rows:
                found[image_id] = (path, path if raw is None else os.fsdecode(raw))
        return found

    def live_ids(self, modality: str, fingerprint: str) -> NDArray[np.int64]:
        """Return the ids of the live images that have this vector, in ascending order."""
        rows = self.connection.execute(
            f"""SELECT id FROM images WHERE {LIVE} AND EXISTS (
                  SELECT 1 FROM {vector_table(modality)} WHERE image_id = images.id AND fingerprint = ?) ORDER BY id""",
            (fingerprint,),
        )
        return np.fromiter((row[0] for row in rows), np.int64)

    def live_ids_of(self, content_hashes: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """List (content hash, id) of the live images that hold these contents."""
        found: list[tuple[bytes, int]] = []
        for start in range(0, len(content_hashes), _VALUES_PER_QUERY):
            some = content_hashes[start : start + _VALUES_PER_QUERY]
            found += self.connection.execute(
                f"SELECT content_hash, id FROM images WHERE {LIVE} AND content_hash IN ({_marks(some)})", some
            ).fetchall()
        return found

    def mark_failed(self, failures: Iterable[tuple[bytes, str, str]]) -> None:
        """Give images their (content hash, status, reason)."""
        self.connection.executemany("UPDATE images SET status = ?2, reason = ?3 WHERE content_hash = ?1", failures)

    def reserve_ids(self, last: int) -> None:
        """Give no id up to `last` to a new image."""
        self.connection.execute(
            """INSERT INTO sqlite_sequence (name, seq) SELECT 'images', 0
               WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'images')"""
        )
        self.connection.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'images'", (last,))

    # Vectors

    def register_fingerprint(self, fingerprint: str, modality: str, dim: int, spec: Mapping[str, Any]) -> None:
        """Record what a fingerprint stands for, and make its modality's table."""
        table = vector_table(modality)
        self.connection.execute(
            f"""CREATE TABLE IF NOT EXISTS {table} (
                image_id INTEGER NOT NULL REFERENCES images (id),
                fingerprint TEXT NOT NULL REFERENCES fingerprints (fingerprint),
                vector BLOB NOT NULL,
                PRIMARY KEY (image_id, fingerprint))"""
        )
        self.connection.execute(
            "INSERT OR IGNORE INTO fingerprints VALUES (?, ?, ?, ?)",
            (fingerprint, modality, dim, json.dumps(dict(spec), sort_keys=True)),
        )

    def modalities(self) -> list[str]:
        """The modalities that have a table of vectors."""
        rows = self.connection.execute("SELECT DISTINCT modality FROM fingerprints ORDER BY modality")
        return [row[0] for row in rows]

    def fingerprints(self) -> dict[str, str]:
        """Map every known fingerprint to its modality."""
        return dict(self.connection.execute("SELECT fingerprint, modality FROM fingerprints").fetchall())

    def fingerprint(self, fingerprint: str) -> tuple[str, int]:
        """Return the modality and dimension of a known fingerprint."""
        modality, dim = self.connection.execute(
            "SELECT modality, dim FROM fingerprints WHERE fingerprint = ?", (fingerprint,)
        ).fetchone()
        return modality, dim

    def count_vectors(self, modality: str, fingerprint: str) -> int:
        """Count the live images that have this vector."""
        count = self.connection.execute(
            f"""SELECT count(*) FROM {vector_table(modality)} JOIN images ON images.id = image_id
                WHERE fingerprint = ? AND {LIVE}""",
            (fingerprint,),
        ).fetchone()[0]
        return int(count)

    def vectors(self, modality: str, fingerprint: str, ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return the stored vectors of `ids`, each (dim,) float32; images without one are left out."""
        found = {}
        for some in _slices(ids):
            rows = self.connection.execute(
                f"""SELECT image_id, vector FROM {vector_table(modality)}
                    WHERE fingerprint = ? AND image_id IN ({_marks(some)})""",
                (fingerprint, *some),
            )
            found.update({image_id: np.frombuffer(vector, "<f4") for image_id, vector in rows})
        return found

    def vector(self, modality: str, fingerprint: str, image_id: int) -> NDArray[np.float32] | None:
        """Return the stored vector of one image, (dim,) float32, or None."""
        row = self.connection.execute(
            f"SELECT vector FROM {vector_table(modality)} WHERE image_id = ? AND fingerprint = ?",
            (image_id, fingerprint),
        ).fetchone()
        return None if row is None else np.frombuffer(row[0], "<f4")

    def copy_vectors(self, modality: str, fingerprint: str) -> int:
        """Give copies of known contents the vectors that those have; return how many."""
        table = vector_table(modality)
        return self.connection.execute(
            f"""INSERT INTO {table} (image_id, fingerprint, vector)
                SELECT copy.id, known.fingerprint, known.vector
                FROM images AS copy CROSS JOIN images AS original ON original.content_hash = copy.content_hash
                JOIN {table} AS known ON known.image_id = original.id AND known.fingerprint = ?1
                WHERE copy.status = 'ok' AND copy.missing_since IS NULL AND NOT EXISTS (
                    SELECT 1 FROM {table} WHERE image_id = copy.id AND fingerprint = ?1)
                GROUP BY copy.id""",
            (fingerprint,),
        ).rowcount

    # Shards

    def shard_sizes(self, fingerprint: str) -> list[tuple[str, int]]:
        """List the known shards of a fingerprint: path and number of vectors."""
        rows = self.connection.execute(
            "SELECT path, vectors FROM shards WHERE fingerprint = ? ORDER BY path", (fingerprint,)
        )
        return rows.fetchall()

    def record_shard(self, path: str, shard: Shard, file: os.stat_result) -> None:
        """Make a verified shard known, and what its file looked like."""
        self.connection.execute(
            "INSERT OR REPLACE INTO shards VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(path, shard.modality, shard.fingerprint, shard.checksum, len(shard.content_hashes)),
                *(file.st_size, file.st_ctime_ns),
            ),
        )

    def shard_files(self) -> dict[str, tuple[int, int]]:
        """Map the paths of the known shards to size and ctime of their files, as they were when verified."""
        rows = self.connection.execute("SELECT path, bytes, verified_ctime_ns FROM shards")
        return {path: (size, ctime_ns) for path, size, ctime_ns in rows}

    def shard_fingerprints(self, paths: Iterable[str]) -> set[str]:
        """The fingerprints of known shards."""
        rows = [self.connection.execute("SELECT fingerprint FROM shards WHERE path = ?", (path,)) for path in paths]
        return {fingerprint for row in rows for (fingerprint,) in row}

    def shard_bytes(self) -> int:
        """Bytes of all known shards."""
        return int(self.connection.execute("SELECT coalesce(sum(bytes), 0) FROM shards").fetchone()[0])

    def outcomes_outside(self, fingerprint: str, held: Iterable[bytes]) -> tuple[list[int], list[Failure]]:
        """Find what the registry knows and the contents `held` do not cover.

        Return an image id for every content with a vector, and the failures.
        """
        run = self.connection.execute
        modality, _ = self.fingerprint(fingerprint)
        run("DROP TABLE IF EXISTS temp.held")
        run("CREATE TEMP TABLE held (content_hash BLOB PRIMARY KEY) WITHOUT ROWID")
        self.connection.executemany("INSERT OR IGNORE INTO held VALUES (?)", ((content,) for content in held))
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

    def content_hashes(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Map ids to what their images hold."""
        found: dict[int, bytes] = {}
        for some in _slices(ids):
            rows = self.connection.execute(f"SELECT id, content_hash FROM images WHERE id IN ({_marks(some)})", some)
            found.update(rows.fetchall())
        return found

    def forget_shards(self, paths: Iterable[str]) -> None:
        self.connection.executemany("DELETE FROM shards WHERE path = ?", ((path,) for path in paths))

    def sample_contents(self, count: int) -> list[Pending]:
        """Draw contents of live images by their hash: the same ones whatever was ingested first, or where."""
        rows = self.connection.execute(
            f"""SELECT content_hash, path, raw_path, size, mtime_ns, ctime_ns FROM images
                WHERE id IN (SELECT min(id) FROM images WHERE {LIVE} AND content_hash IS NOT NULL
                             GROUP BY content_hash ORDER BY content_hash LIMIT ?)
                ORDER BY content_hash""",
            (count,),
        )
        return [_pending(row) for row in rows]

    # Index rows

    def mirrored_segments(self, index_name: str) -> set[str]:
        """The segments whose rows are in `index_rows`."""
        rows = self.connection.execute(
            """WITH RECURSIVE known (segment) AS (
                 SELECT min(segment) FROM index_rows WHERE index_name = ?1
                 UNION ALL
                 SELECT (SELECT min(i.segment) FROM index_rows AS i
                         WHERE i.index_name = ?1 AND i.segment > known.segment)
                 FROM known WHERE segment IS NOT NULL)
               SELECT segment FROM known WHERE segment IS NOT NULL""",
            (index_name,),
        )
        return {row[0] for row in rows}

    def record_segment(self, index_name: str, segment: str, image_ids: Iterable[int]) -> None:
        self.connection.executemany(
            "INSERT INTO index_rows VALUES (?, ?, ?, ?)",
            ((index_name, segment, offset, image_id) for offset, image_id in enumerate(image_ids)),
        )

    def forget_segments(self, index_name: str, segments: Iterable[str]) -> None:
        self.connection.executemany(
            "DELETE FROM index_rows WHERE index_name = ? AND segment = ?",
            ((index_name, segment) for segment in segments),
        )

    # Pending work

    def list_pending(self, fingerprints: Mapping[str, str]) -> list[PendingGroup]:
        """Put the contents that wait for vectors of these fingerprints (by modality) into a temporary list.

        Groups contents by what they wait for, so that one decode serves all of it; inside a group they come in the
        order of image ids. The list stays as it is while vectors come in.
        """
        run = self.connection.execute
        run("CREATE TEMP TABLE IF NOT EXISTS pending (position INTEGER PRIMARY KEY, image_id INTEGER, waiting INTEGER)")
        run("DELETE FROM temp.pending")
        if not fingerprints:
            return []
        waiting = " + ".join(
            f"""(NOT EXISTS (SELECT 1 FROM {vector_table(modality)} WHERE image_id = images.id AND fingerprint = ?)
                 AND NOT EXISTS (SELECT 1 FROM vector_failures AS failure
                                 WHERE failure.content_hash = images.content_hash AND fingerprint = ?)) * {1 << bit}"""
            for bit, modality in enumerate(fingerprints)
        )
        run(
            f"""INSERT INTO temp.pending (image_id, waiting)
                SELECT min(id), waiting FROM (
                    SELECT id, content_hash, {waiting} AS waiting FROM images WHERE {LIVE} AND content_hash IS NOT NULL)
                WHERE waiting > 0 GROUP BY content_hash ORDER BY waiting, 1""",
            [fingerprint for fingerprint in fingerprints.values() for _ in range(2)],
        )
        groups = run("SELECT waiting, min(position), count(*) FROM temp.pending GROUP BY waiting ORDER BY waiting")
        return [
            PendingGroup(tuple(name for bit, name in enumerate(fingerprints) if mask >> bit & 1), start, count)
            for mask, start, count in groups
        ]

    def pending(self, start: int, count: int) -> list[Pending]:
        """Read `count` contents from position `start` of what `list_pending` listed."""
        rows = self.connection.execute(
            """SELECT content_hash, path, raw_path, size, mtime_ns, ctime_ns
               FROM temp.pending JOIN images ON images.id = image_id
               WHERE position >= ? AND position < ? ORDER BY position""",
            (start, start + count),
        )
        return [_pending(row) for row in rows]


def _pending(row: tuple[bytes, str, bytes | None, int, int, int]) -> Pending:
    content_hash, path, raw_path, *stat = row
    return Pending(content_hash, path if raw_path is None else os.fsdecode(raw_path), *stat)


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise LibraryFormatError(f"{path} is damaged ({error}): restore it from a backup") from error


def _slices(ids: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), _VALUES_PER_QUERY):
        yield list(ids[start : start + _VALUES_PER_QUERY])


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
