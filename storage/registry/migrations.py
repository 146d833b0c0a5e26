"""The registry's schema, as ordered steps. A step and its record are one transaction; old steps never change."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from imgrec.storage.errors import LibraryFormatError


def _create(connection: sqlite3.Connection) -> None:
    statements = (
        # One row per path. `path` is printable; `raw_path` holds the bytes where the name is not UTF-8.
        # `hashed_ns` is when the content was read, `missing_since` when a scan first did not find it.
        """CREATE TABLE images (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            path TEXT NOT NULL,
            raw_path BLOB,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            ctime_ns INTEGER NOT NULL,
            hashed_ns INTEGER NOT NULL,
            content_hash BLOB,
            width INTEGER,
            height INTEGER,
            format TEXT,
            status TEXT NOT NULL,
            reason TEXT,
            missing_since TEXT)""",
        "CREATE UNIQUE INDEX images_path ON images (ifnull(raw_path, path)) WHERE missing_since IS NULL",
        "CREATE INDEX images_content_hash ON images (content_hash)",
        # What a scan has read and not yet applied: a scan that was killed reads no file twice.
        """CREATE TABLE probes (
            key PRIMARY KEY,
            path TEXT NOT NULL,
            raw_path BLOB,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            ctime_ns INTEGER NOT NULL,
            hashed_ns INTEGER NOT NULL,
            content_hash BLOB,
            width INTEGER,
            height INTEGER,
            format TEXT,
            status TEXT NOT NULL,
            reason TEXT)""",
        """CREATE TABLE fingerprints (
            fingerprint TEXT PRIMARY KEY,
            modality TEXT NOT NULL,
            dim INTEGER NOT NULL,
            spec TEXT NOT NULL)""",
        """CREATE TABLE shards (
            path TEXT PRIMARY KEY,
            modality TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            checksum TEXT NOT NULL,
            vectors INTEGER NOT NULL,
            bytes INTEGER NOT NULL)""",
        # Contents that have no vector, and why.
        """CREATE TABLE vector_failures (
            content_hash BLOB NOT NULL,
            fingerprint TEXT NOT NULL,
            status TEXT NOT NULL,
            reason TEXT,
            PRIMARY KEY (content_hash, fingerprint)) WITHOUT ROWID""",
        # A copy of every live index's offset → image id, for SQL users; searching reads the segment's own.
        """CREATE TABLE index_rows (
            index_name TEXT NOT NULL,
            segment TEXT NOT NULL,
            "offset" INTEGER NOT NULL,
            image_id INTEGER NOT NULL REFERENCES images (id),
            PRIMARY KEY (index_name, segment, "offset")) WITHOUT ROWID""",
    )
    for statement in statements:
        connection.execute(statement)


def _remember_when_shards_were_verified(connection: sqlite3.Connection) -> None:
    # The file's ctime when its checksum was right; 0 makes the next ingest look again.
    connection.execute("ALTER TABLE shards ADD COLUMN verified_ctime_ns INTEGER NOT NULL DEFAULT 0")


def _count_retries(connection: sqlite3.Connection) -> None:
    # How often an image that failed for a passing reason was tried again by itself.
    connection.execute("ALTER TABLE images ADD COLUMN retries INTEGER NOT NULL DEFAULT 0")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _create,
    _remember_when_shards_were_verified,
    _count_retries,
)


def schema_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_up_to_date(connection: sqlite3.Connection) -> bool:
    """Whether the schema is this program's; one that is only read may be older."""
    return schema_version(connection) == len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date; `connection` is in autocommit mode.

    Raises:
        LibraryFormatError: the registry is newer than this program.
    """
    check_not_newer(connection, path)
    for version in range(schema_version(connection), len(MIGRATIONS)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            MIGRATIONS[version](connection)
            connection.execute(f"PRAGMA user_version = {version + 1}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def check_not_newer(connection: sqlite3.Connection, path: Path) -> None:
    version = schema_version(connection)
    if version > len(MIGRATIONS):
        raise LibraryFormatError(
            f"{path} has schema {version}, this imgrec knows up to {len(MIGRATIONS)}: upgrade image-recommender"
        )


def table_names(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def expected_tables() -> set[str]:
    """The tables that a registry has before it has any vector."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(connection, Path(":memory:"))
        return set(table_names(connection))
    finally:
        connection.close()
