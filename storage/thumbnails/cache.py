"""Larger thumbnails, kept once they were asked for, up to a total size; those that were not looked at for longest go.

One SQLite file in the library, which may be removed at any time: what it held is made anew.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from imgrec.storage.thumbnails.webp import SIDE

NAME = "cache.sqlite"
SIDES = (128, 256, 512, 1_024)
_BUSY_S = 5.0
# So much below the limit is made room, so that not every thumbnail makes some.
_ROOM = 0.9
# What was looked at is noted this often at most.
_NOTE_EVERY_S = 3_600.0
_SCHEMA = """CREATE TABLE IF NOT EXISTS thumbnails (
    content_hash BLOB NOT NULL, side INTEGER NOT NULL, webp BLOB NOT NULL, used_s REAL NOT NULL,
    PRIMARY KEY (content_hash, side));
    CREATE INDEX IF NOT EXISTS thumbnails_used ON thumbnails (used_s);"""

T = TypeVar("T")

logger = logging.getLogger(__name__)


def allowed_side(side: int) -> int:
    """The next larger one of the few sizes that are made, so that nobody fills the disk with all others."""
    return next((one for one in (SIDE, *SIDES) if one >= side), SIDES[-1])


class ThumbnailCache:
    """Thumbnails by content hash and side, for any number of threads and processes.

    Where the library cannot be written, or SQLite fails, nothing is kept, with one warning.
    """

    def __init__(self, folder: Path, max_bytes: float) -> None:
        self._path = folder / NAME
        self._max_bytes = max_bytes
        self._turn = threading.Lock()
        self._fails = max_bytes <= 0

    def get_or_make(self, content: bytes, side: int, make: Callable[[], bytes]) -> bytes:
        """Return a kept thumbnail, or make one and keep it."""
        found = self._try(lambda database: self._read(database, content, side))
        if found is not None:
            return found
        made = make()
        self._try(lambda database: self._keep(database, content, side, made))
        return made

    def contents(self) -> list[bytes]:
        """The content hashes that something is kept of."""
        rows = self._try(lambda db: db.execute("SELECT DISTINCT content_hash FROM thumbnails").fetchall())
        return [row[0] for row in rows or ()]

    def size_of(self, contents: Iterable[bytes]) -> int:
        """Bytes that are kept of these contents."""
        query = "SELECT coalesce(sum(length(webp)), 0) FROM thumbnails WHERE content_hash = ?"
        sizes = self._try(lambda db: [db.execute(query, (content,)).fetchone()[0] for content in contents])
        return sum(sizes or ())

    def forget(self, contents: Iterable[bytes]) -> None:
        """Forget what is kept of these contents."""
        self._try(
            lambda db: db.executemany("DELETE FROM thumbnails WHERE content_hash = ?", ((one,) for one in contents))
        )

    def _read(self, database: sqlite3.Connection, content: bytes, side: int) -> bytes | None:
        row = database.execute(
            "SELECT webp, used_s FROM thumbnails WHERE content_hash = ? AND side = ?", (content, side)
        ).fetchone()
        if row is None:
            return None
        if time.time() - row[1] > _NOTE_EVERY_S:
            database.execute(
                "UPDATE thumbnails SET used_s = ? WHERE content_hash = ? AND side = ?", (time.time(), content, side)
            )
        return bytes(row[0])

    def _keep(self, database: sqlite3.Connection, content: bytes, side: int, made: bytes) -> None:
        database.execute("INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?, ?)", (content, side, made, time.time()))
        if _used_bytes(database) > self._max_bytes:
            self._make_room(database)

    def _make_room(self, database: sqlite3.Connection) -> None:
        """Remove those that were not looked at for longest; SQLite fills their pages again."""
        too_many = _used_bytes(database) - _ROOM * self._max_bytes
        gone = []
        for row_id, size in database.execute("SELECT rowid, length(webp) FROM thumbnails ORDER BY used_s"):
            if too_many <= 0:
                break
            too_many -= size
            gone.append((row_id,))
        database.executemany("DELETE FROM thumbnails WHERE rowid = ?", gone)

    def _try(self, use: Callable[[sqlite3.Connection], T]) -> T | None:
        """Use the database in a transaction; None where it fails. A damaged one is removed, and begun anew."""
        if self._fails:
            return None
        with self._turn:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(self._path, timeout=_BUSY_S)) as database, database:
                    database.executescript(_SCHEMA)
                    return use(database)
            except (sqlite3.Error, OSError) as error:
                if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                    self._path.unlink(missing_ok=True)
                    return None
                self._fails = True
                logger.warning("%s keeps no larger thumbnails, which are made each time: %s", self._path, error)
                return None


def _used_bytes(database: sqlite3.Connection) -> int:
    pages, free, size = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
