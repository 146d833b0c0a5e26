"""What a scan has to read, and what it has read: that is kept, whatever becomes of the scan."""

import os
import sqlite3
from collections.abc import Iterator, Sequence

from imgrec.storage.photos.probe import Probe
from imgrec.storage.registry.keys import seen_row


def files_to_read(connection: sqlite3.Connection, batch: int) -> Iterator[list[str]]:
    """Yield the paths that `compare` found new or changed, `batch` at a time."""
    last: object = ""
    while rows := connection.execute(
        "SELECT key, path, raw_path FROM seen WHERE state IS NULL AND key > ? ORDER BY key LIMIT ?", (last, batch)
    ).fetchall():
        last = rows[-1][0]
        yield [path if raw is None else os.fsdecode(raw) for _, path, raw in rows]


def sample_to_read(connection: sqlite3.Connection, count: int) -> list[str]:
    """Draw some of the paths that `compare` found new or changed."""
    rows = connection.execute("SELECT path, raw_path FROM seen WHERE state IS NULL ORDER BY random() LIMIT ?", (count,))
    return [path if raw is None else os.fsdecode(raw) for path, raw in rows]


def record_probes(connection: sqlite3.Connection, probes: Sequence[Probe]) -> None:
    """Keep what was read: whatever becomes of this scan, the next one does not read it again."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT OR REPLACE INTO probes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(*seen_row(p.file), p.hashed_ns, *p[2:]) for p in probes],
    )
    connection.execute("COMMIT")


def discard_stale_probes(connection: sqlite3.Connection) -> None:
    """Forget what an earlier scan read and this walk did not confirm."""
    connection.execute("DELETE FROM probes WHERE key NOT IN (SELECT key FROM seen WHERE state = 'read')")
