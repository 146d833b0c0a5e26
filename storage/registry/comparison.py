"""A walk against the registry, before any file is read: what is new or changed, and what was not found.

Nothing here holds the files in memory: both come in the order of paths, and what differs goes into temporary tables.
"""

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.roots import Roots, end_of, prefix_of
from imgrec.storage.photos.walk import FoundFile, WalkReport
from imgrec.storage.registry.keys import (
    KEY,
    ROW_AT_KEY,
    SETTLED,
    is_settled,
    key_of,
    keys_below,
    named_in_utf8,
    seen_row,
)

# No more of a walk and of the registry are compared at once than a CPU's cache holds.
_ROWS = 2_000
# In the form of FoundFile, which no file equals where the size is NULL. All of it is in the index `images_walk`.
_KNOWN_BETWEEN = f"""SELECT path, CASE WHEN {SETTLED} THEN size END, mtime_ns, ctime_ns FROM images AS i
    WHERE missing_since IS NULL AND raw_path IS NULL AND path > ? AND path <= ? ORDER BY path"""


@dataclass(frozen=True)
class ComparedRoot:
    """Of one root, how many files the walk found, how many photos are `present` in the registry, and `gone` now."""

    found: int
    present: int
    gone: int


@dataclass(frozen=True)
class Comparison:
    """A walk against the registry. What is `excluded` now, or was in a root that was removed, is not `gone`.

    `roots` has those that were walked.
    """

    found: int
    unchanged: int
    to_read: int
    gone: int
    present: int
    excluded: int
    roots: Mapping[str, ComparedRoot]


@dataclass
class _Part:
    """A root as far as it was compared: up to the path `last`."""

    last: str
    found: int = 0
    present: int = 0


def is_known(connection: sqlite3.Connection, path: str) -> bool:
    """Whether there is a photo of this path."""
    found = connection.execute(
        "SELECT 1 FROM images WHERE ifnull(raw_path, path) = ? AND missing_since IS NULL", (key_of(path),)
    )
    return found.fetchone() is not None


def compare(
    connection: sqlite3.Connection,
    roots: Roots,
    walked: Iterable[tuple[str | None, Iterable[FoundFile]]],
    report: WalkReport,
    if_empty: Collection[str] = (),
) -> Comparison:
    """Compare what a walk finds, root by root and links at last (None), with the registry: list in `seen` what is new
    or changed, in `gone` what was not found.

    A walk in the order of paths costs one pass over the registry's, as nothing is written for a file that is unchanged.
    In any other order the outcome is the same. Of the walk's `report` it hears what is left out, and at the end which
    folders could not be read: photos below them are not gone. Nor are those of roots that were not walked, and those of
    a root that `if_empty` names and in which there is none now, which the report then has as `left_alone`.
    """
    run = connection.execute
    _create_lists(connection)
    report.on_left_out = lambda path: run("INSERT OR IGNORE INTO left_out VALUES (?)", (key_of(path),))
    parts: dict[str, _Part] = {}
    for name, files in walked:
        if name is None:
            _take_linked(connection, roots, files, parts)
        else:
            parts[name] = _compare_root(connection, name, files)
    empty = [name for name in parts if name in if_empty and not parts[name].found and _has_photos(connection, name)]
    report.left_alone |= dict.fromkeys(empty, "no photo is in it any more")
    run("BEGIN")
    for name, part in parts.items():
        if name not in report.left_alone:
            part.present += _list_rest(connection, name, part.last)
    run(f"DELETE FROM gone WHERE id IN (SELECT i.id FROM seen {ROW_AT_KEY})")
    _mark_seen(connection)
    _keep_unreadable(connection, report.unreadable_folders)
    _mark_excluded(connection)
    _list_strays(connection, roots)
    changed, to_read = run("SELECT count(*), coalesce(sum(state IS NULL), 0) FROM seen").fetchone()
    gone, excluded = run("SELECT count(*), coalesce(sum(excluded), 0) FROM gone").fetchone()
    gone_by_root = _count_gone(connection, roots)
    run("COMMIT")
    compared = {name: ComparedRoot(part.found, part.present, gone_by_root.get(name, 0)) for name, part in parts.items()}
    found, present = (sum(getattr(root, what) for root in compared.values()) for what in ("found", "present"))
    return Comparison(found, found - changed, to_read, gone - excluded, present, excluded, compared)


def _compare_root(connection: sqlite3.Connection, name: str, files: Iterable[FoundFile]) -> _Part:
    part, files = _Part(prefix_of(name)), iter(files)
    while some := list(islice(files, _ROWS)):
        named = named_in_utf8(some)
        end = named[-1].path if named else part.last
        known = connection.execute(_KNOWN_BETWEEN, (part.last, end)).fetchall()
        if known != some:
            _list_differences(connection, some, known)
        part.found, part.present, part.last = part.found + len(some), part.present + len(known), max(part.last, end)
    return part


def _take_linked(
    connection: sqlite3.Connection, roots: Roots, files: Iterable[FoundFile], parts: Mapping[str, _Part]
) -> None:
    files = iter(files)
    while some := list(islice(files, _ROWS)):
        _list_differences(connection, some, ())
        for file in some:
            parts[roots.name_of(file.path) or ""].found += 1


def _has_photos(connection: sqlite3.Connection, name: str) -> bool:
    found = f"SELECT 1 FROM images AS i WHERE missing_since IS NULL AND {KEY} >= ? AND {KEY} < ?"
    return any(connection.execute(f"{found} LIMIT 1", keys).fetchone() for keys in keys_below(name))


def _list_rest(connection: sqlite3.Connection, name: str, last: str) -> int:
    """List in `gone` what the registry has of a root beyond the path `last`, and what is not named in UTF-8."""
    insert = f"INSERT INTO gone (id) SELECT id FROM images AS i WHERE missing_since IS NULL AND {KEY} > ?"
    if not name:
        return connection.execute(insert, (last,)).rowcount
    (_, end), raw = keys_below(name)
    return sum(connection.execute(f"{insert} AND {KEY} < ?", keys).rowcount for keys in ((last, end), raw))


def count_strays(connection: sqlite3.Connection, roots: Roots) -> int:
    """Count the photos that are there and in none of the roots."""
    return sum(
        connection.execute(f"SELECT count(*) FROM images WHERE {between}", edges).fetchone()[0]
        for between, edges in _between_roots(roots)
    )


def _list_strays(connection: sqlite3.Connection, roots: Roots) -> None:
    """List as excluded what is in none of the roots, since its own was removed."""
    for between, edges in _between_roots(roots):
        connection.execute(
            f"INSERT OR REPLACE INTO gone (id, excluded) SELECT id, 1 FROM images WHERE {between}", edges
        )


def _between_roots(roots: Roots) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield where paths lie that are there and in none of the roots, in SQL."""
    if not roots.are_named:
        return
    edges = ["", *(edge for name in roots.in_order() for edge in (prefix_of(name), end_of(name)))]
    for first, end in list(pairwise(edges))[::2]:
        yield "missing_since IS NULL AND path >= ? AND path < ?", (first, end)
    yield "missing_since IS NULL AND path >= ?", (edges[-1],)


def _count_gone(connection: sqlite3.Connection, roots: Roots) -> dict[str, int]:
    """Count by root what is gone, without what is excluded."""
    rows = connection.execute(
        f"""SELECT {root_of("path", roots)}, count(*) FROM gone CROSS JOIN images ON images.id = gone.id
            WHERE NOT excluded GROUP BY 1"""
    )
    return dict(rows.fetchall())


def root_of(path: str, roots: Roots) -> str:
    """The name of the root of a path, in SQL."""
    return f"substr({path}, 1, instr({path}, '/') - 1)" if roots.are_named else "''"


def _create_lists(connection: sqlite3.Connection) -> None:
    for name in ("seen", "gone", "left_out"):
        connection.execute(f"DROP TABLE IF EXISTS temp.{name}")
    connection.execute(
        """CREATE TEMP TABLE seen (key PRIMARY KEY, path TEXT, raw_path BLOB, size INTEGER, mtime_ns INTEGER,
           ctime_ns INTEGER, state TEXT) WITHOUT ROWID"""
    )
    connection.execute("CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY, excluded INTEGER DEFAULT 0)")
    connection.execute("CREATE TEMP TABLE left_out (key PRIMARY KEY) WITHOUT ROWID")


def _list_differences(
    connection: sqlite3.Connection, files: Sequence[FoundFile], known: Sequence[tuple[str, int | None, int, int]]
) -> None:
    """List which of some files are not among the registry's, and the other way round."""
    same, paths = set(known), {file.path for file in files}
    lost = [(row[0],) for row in known if row[0] not in paths]
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?, NULL)",
        (seen_row(file) for file in files if file not in same),
    )
    connection.executemany(
        f"INSERT OR IGNORE INTO gone (id) SELECT id FROM images AS i WHERE {KEY} = ? AND missing_since IS NULL", lost
    )
    connection.execute("COMMIT")


def _mark_seen(connection: sqlite3.Connection) -> None:
    """Take out of `seen` what is unchanged after all, which a walk in another order leaves in; mark what was read."""
    connection.execute(
        f"""DELETE FROM seen WHERE EXISTS (
              SELECT 1 FROM images AS i WHERE {KEY} = seen.key AND i.missing_since IS NULL AND {SETTLED}
                AND i.size = seen.size AND i.mtime_ns = seen.mtime_ns AND i.ctime_ns = seen.ctime_ns)"""
    )
    connection.execute(
        f"""UPDATE seen SET state = 'read' WHERE EXISTS (
              SELECT 1 FROM probes AS p WHERE p.key = seen.key AND p.size = seen.size
                AND p.mtime_ns = seen.mtime_ns AND p.ctime_ns = seen.ctime_ns
                AND p.content_hash IS NOT NULL AND {is_settled("p")})"""
    )


def _keep_unreadable(connection: sqlite3.Connection, folders: Iterable[str]) -> None:
    for folder in folders:
        path = printable(folder)
        prefix = f"{path}/" if path else ""
        connection.execute(
            """DELETE FROM gone WHERE id IN (
                 SELECT images.id FROM gone CROSS JOIN images ON images.id = gone.id
                 WHERE path = ? OR substr(path, 1, ?) = ?)""",
            (path, len(prefix), prefix),
        )


def _mark_excluded(connection: sqlite3.Connection) -> None:
    """Tell the photos that the walk leaves out from those that are gone: it left out the file, or a folder above it."""
    if connection.execute("SELECT NOT EXISTS (SELECT 1 FROM left_out)").fetchone()[0]:
        return
    gone = connection.execute(f"SELECT gone.id, {KEY} FROM gone CROSS JOIN images AS i ON i.id = gone.id").fetchall()
    for image_id, key in gone:
        parts = os.fsdecode(key).split("/")
        above = [key_of("/".join(parts[:end]) + "/") for end in range(1, len(parts))]
        marks = ",".join("?" * len(parts))
        found = connection.execute(f"SELECT 1 FROM left_out WHERE key IN ({marks})", (key, *above))
        if found.fetchone() is not None:
            connection.execute("UPDATE gone SET excluded = 1 WHERE id = ?", (image_id,))
