"""Photos whose header was read before date and camera were of interest, but for those of roots that are left alone."""

import os
import sqlite3
from collections.abc import Collection, Sequence

from imgrec.storage.photos.exif import Exif
from imgrec.storage.registry.sql import outside

# In the words of the index `images_unread`, or SQLite does not take it.
_UNREAD = "header_read = 0 AND status = 'ok' AND missing_since IS NULL"


def is_any(connection: sqlite3.Connection, left_alone: Collection[str] = ()) -> bool:
    """Whether there are such photos."""
    readable, edges = outside(left_alone)
    found = connection.execute(f"SELECT EXISTS (SELECT 1 FROM images WHERE {_UNREAD} AND {readable})", edges)
    return bool(found.fetchone()[0])


def count(connection: sqlite3.Connection, left_alone: Collection[str] = ()) -> int:
    readable, edges = outside(left_alone)
    return int(connection.execute(f"SELECT count(*) FROM images WHERE {_UNREAD} AND {readable}", edges).fetchone()[0])


def after(
    connection: sqlite3.Connection, last_id: int, most: int, left_alone: Collection[str] = ()
) -> list[tuple[int, str, str]]:
    """The next such photos by id: id, path in the library as it opens, and format."""
    readable, edges = outside(left_alone)
    rows = connection.execute(
        f"SELECT id, path, raw_path, format FROM images WHERE {_UNREAD} AND {readable} AND id > ? ORDER BY id LIMIT ?",
        (*edges, last_id, most),
    )
    return [(i, path if raw is None else os.fsdecode(raw), kind or "") for i, path, raw, kind in rows.fetchall()]


def record(connection: sqlite3.Connection, found: Sequence[tuple[int, Exif]]) -> None:
    """Write down what headers say, and that they were read."""
    if not found:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "UPDATE images SET taken = ?, taken_offset = ?, camera = ?, header_read = 1 WHERE id = ?",
        [(*exif, image_id) for image_id, exif in found],
    )
    connection.execute("COMMIT")
