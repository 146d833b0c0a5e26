"""A connection to registry.sqlite, for the one writer or for a reader."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from imgrec.storage.errors import LibraryFormatError, LibraryNotFoundError
from imgrec.storage.machine.filesystems import allows_wal
from imgrec.storage.machine.os_errors import cannot_be_opened, errno_of
from imgrec.storage.registry.migrations import check_not_newer, migrate, schema_version

# How long another program may hold the registry before a run gives up.
BUSY_TIMEOUT_S = 60
# Readers map the registry instead of copying its pages.
READER_MMAP_BYTES = 2**32
# The write-ahead log is brought into the registry every 64 MB of it: each time the disk is waited for.
CHECKPOINT_PAGES = 16_384


class Database:
    """Writers hold the library's lock; readers may come at any time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    @classmethod
    @contextmanager
    def open_for_writing(cls, path: Path) -> Iterator[Self]:
        connection = _connect(path)
        try:
            with _naming_damage(path):
                asked = "WAL" if allows_wal(path.parent) else "DELETE"
                (journal,) = connection.execute(f"PRAGMA journal_mode = {asked}").fetchone()
                # With a write-ahead log, a power cut may take the last transactions (`durable` ones excepted). With a
                # rollback journal that is not flushed, it may damage the file.
                connection.execute(f"PRAGMA synchronous = {'NORMAL' if journal == 'wal' else 'FULL'}")
                connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
                connection.execute("PRAGMA foreign_keys = ON")
                migrate(connection, path)
                yield cls(connection)
        finally:
            connection.close()

    @classmethod
    @contextmanager
    def open_for_reading(cls, path: Path) -> Iterator[Self]:
        if not path.is_file():
            raise LibraryNotFoundError(f"{path} is not there: `imgrec ingest` makes it")
        # In a folder that may not be written SQLite cannot make the files that it reads a write-ahead log with.
        frozen = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
        uri = f"{path.resolve().as_uri()}?{'immutable=1' if frozen else 'mode=ro'}"
        connection = _connect(path, uri)
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
    def transaction(self, durable: bool = False) -> Iterator[None]:
        """All or nothing. What was committed up to a `durable` one outlives a power cut."""
        (usual,) = self.connection.execute("PRAGMA synchronous").fetchone()
        if durable:
            self.connection.execute("PRAGMA synchronous = FULL")
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            self.connection.execute("COMMIT")
        finally:
            self.connection.execute(f"PRAGMA synchronous = {usual}")


def _connect(path: Path, uri: str | None = None) -> sqlite3.Connection:
    """Open the registry at `path`, by a URI that says how."""
    with _naming_damage(path):
        return sqlite3.connect(
            uri or path, uri=uri is not None, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Say which registry is damaged, and where files cannot be opened, why, as long as that can be seen."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            if cannot_be_opened(error) and (code := errno_of(error)):
                raise OSError(code, os.strerror(code), str(path)) from error
            raise
        raise LibraryFormatError(f"{path} is damaged ({error}): restore it from a backup") from error
