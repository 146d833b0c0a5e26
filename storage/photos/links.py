"""Symbolic links that a walk follows: kept until all folders that are really there are walked."""

import os
from collections.abc import Iterator
from pathlib import Path

_AT_ONCE = 1_000


class Links:
    """Folders that were entered and links that wait, in a temporary database: there may be as many as photos.

    Which file or folder it is, is told by device and inode, so that no loop traps the walk and nothing counts twice.
    """

    def __init__(self) -> None:
        import sqlite3  # here, since the jobs of a cluster import this file, and do without

        self._connection = sqlite3.connect("", isolation_level=None)
        run = self._connection.execute
        run("PRAGMA journal_mode = OFF")
        run("CREATE TABLE known (device TEXT, inode TEXT, PRIMARY KEY (device, inode)) WITHOUT ROWID")
        run("CREATE TABLE waiting (number INTEGER PRIMARY KEY, path BLOB)")
        run("BEGIN")

    def is_new(self, status: os.stat_result) -> bool:
        """Whether a file or folder is seen for the first time; then it is known."""
        identity = (str(status.st_dev), str(status.st_ino))  # inodes may have more bits than SQLite's integers
        return self._connection.execute("INSERT OR IGNORE INTO known VALUES (?, ?)", identity).rowcount == 1

    def is_known(self, status: os.stat_result) -> bool:
        identity = (str(status.st_dev), str(status.st_ino))
        found = self._connection.execute("SELECT 1 FROM known WHERE (device, inode) = (?, ?)", identity)
        return found.fetchone() is not None

    def keep(self, path: str) -> None:
        """Let a link to a file wait."""
        self._connection.execute("INSERT INTO waiting (path) VALUES (?)", (os.fsencode(path),))

    def waiting(self) -> Iterator[str]:
        """Yield the links that wait, in the order in which they were kept."""
        last = 0
        while rows := self._connection.execute(
            "SELECT number, path FROM waiting WHERE number > ? ORDER BY number LIMIT ?", (last, _AT_ONCE)
        ).fetchall():
            last = rows[-1][0]
            yield from (os.fsdecode(path) for _, path in rows)

    def close(self) -> None:
        self._connection.close()


def folder_of_target(path: Path) -> os.stat_result:
    """The folder in which the file that a link leads to really is."""
    return Path(os.path.realpath(path)).parent.stat()
