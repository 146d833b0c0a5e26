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
    # How often an image that failed for a temporary reason was tried again by itself.
    connection.execute("ALTER TABLE images ADD COLUMN retries INTEGER NOT NULL DEFAULT 0")


def _follow_changes(connection: sqlite3.Connection) -> None:
    statements = (
        # All that a walk is compared with, so that one that finds what it found before reads this index only.
        """CREATE INDEX images_walk ON images
            (path, size, mtime_ns, ctime_ns, hashed_ns, status, raw_path, missing_since) WHERE missing_since IS NULL""",
        # What most images are not is found without looking at all of them.
        "CREATE INDEX images_failed ON images (status) WHERE status <> 'ok'",
        "CREATE INDEX images_missing ON images (missing_since) WHERE missing_since IS NOT NULL",
        "CREATE INDEX vector_failures_not_finite ON vector_failures (fingerprint) WHERE status = 'not_finite'",
        # The content hashes of a shard's failures, one after another; NULL where nobody has looked yet.
        "ALTER TABLE shards ADD COLUMN failed BLOB",
        # storage/registry/changes.py says how these work together.
        "ALTER TABLE fingerprints ADD COLUMN tracked INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE touched (image_id INTEGER PRIMARY KEY)",
        "CREATE TABLE in_step (index_name TEXT PRIMARY KEY, version TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TRIGGER images_added AFTER INSERT ON images
            WHEN EXISTS (SELECT 1 FROM fingerprints WHERE tracked)
            BEGIN INSERT OR IGNORE INTO touched VALUES (NEW.id); END""",
        """CREATE TRIGGER images_changed AFTER UPDATE OF status, missing_since, content_hash ON images
            WHEN (OLD.status IS NOT NEW.status OR OLD.missing_since IS NOT NEW.missing_since
                  OR OLD.content_hash IS NOT NEW.content_hash) AND EXISTS (SELECT 1 FROM fingerprints WHERE tracked)
            BEGIN INSERT OR IGNORE INTO touched VALUES (NEW.id); END""",
        """CREATE TRIGGER images_removed AFTER DELETE ON images
            WHEN EXISTS (SELECT 1 FROM fingerprints WHERE tracked)
            BEGIN INSERT OR IGNORE INTO touched VALUES (OLD.id); END""",
        """CREATE TRIGGER vector_failures_added AFTER INSERT ON vector_failures
            WHEN EXISTS (SELECT 1 FROM fingerprints WHERE fingerprint = NEW.fingerprint AND tracked)
            BEGIN INSERT OR IGNORE INTO touched SELECT id FROM images WHERE content_hash = NEW.content_hash; END""",
        """CREATE TRIGGER vector_failures_removed AFTER DELETE ON vector_failures
            WHEN EXISTS (SELECT 1 FROM fingerprints WHERE fingerprint = OLD.fingerprint AND tracked)
            BEGIN INSERT OR IGNORE INTO touched SELECT id FROM images WHERE content_hash = OLD.content_hash; END""",
        "CREATE TRIGGER fingerprints_lost AFTER DELETE ON fingerprints WHEN OLD.tracked BEGIN DELETE FROM in_step; END",
        """CREATE TRIGGER fingerprints_untracked AFTER UPDATE OF tracked ON fingerprints WHEN OLD.tracked > NEW.tracked
            BEGIN DELETE FROM in_step; END""",
    )
    for statement in statements:
        connection.execute(statement)


def _index_what_embedders_fail_on(connection: sqlite3.Connection) -> None:
    # In the words in which failures are asked for (shards.FAILED_IN_ONE), or SQLite does not take it.
    connection.execute("DROP INDEX vector_failures_not_finite")
    connection.execute(
        """CREATE INDEX vector_failures_told ON vector_failures (fingerprint)
            WHERE status IN ('not_finite', 'embedder_failed')"""
    )


def _settle_duplicates(connection: sqlite3.Connection) -> None:
    # Groups of copies that a user has settled, by content: paths and ids may change (storage/registry/duplicates.py).
    connection.execute(
        """CREATE TABLE settled_duplicates (
            number INTEGER NOT NULL,
            content_hash BLOB NOT NULL,
            verdict TEXT NOT NULL,
            settled TEXT NOT NULL,
            PRIMARY KEY (number, content_hash)) WITHOUT ROWID"""
    )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _create,
    _remember_when_shards_were_verified,
    _count_retries,
    _follow_changes,
    _index_what_embedders_fail_on,
    _settle_duplicates,
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


def expected_tables(version: int) -> set[str]:
    """The tables that a registry of this schema version has before it has any vector."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for step in MIGRATIONS[:version]:
            step(connection)
        return set(table_names(connection))
    finally:
        connection.close()
