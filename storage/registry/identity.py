"""Which photo is which: a scan's files against the registry's rows, as set operations in SQL.

Nothing here holds the files in memory: what the walk sees anew goes into a temporary table, what has to be read goes
through `probes`, and `apply` turns both into rows, in one transaction.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from imgrec.storage.errors import UNREADABLE
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.probe import Probe
from imgrec.storage.photos.walk import FoundFile, WalkReport
from imgrec.storage.shards import OF_ONE_MODALITY

# A file written within the clock's grain of the moment it was read may have changed unseen, so it is read again.
# 2 s is the coarsest grain in use (FAT).
CLOCK_GRAIN_NS = 2_000_000_000
# A file dated later than that was dated so by hand, not by a clock that is ahead: a change would date it anew.
CLOCK_AHEAD_NS = 24 * 3600 * 1_000_000_000
# No more of a walk and of the registry are compared at once than a CPU's cache holds.
_ROWS = 2_000


def _is_settled(table: str) -> str:
    """Whether the mtime of a row would be another one if the file had changed since it was read."""
    time, read = f"{table}.mtime_ns", f"{table}.hashed_ns"
    return f"{time} NOT BETWEEN {read} - {CLOCK_GRAIN_NS} AND {read} + {CLOCK_AHEAD_NS}"


# A path as it is unique, of `images AS i`; those that are not UTF-8, BLOBs, come after all others.
_KEY = "ifnull(i.raw_path, i.path)"
# CROSS keeps SQLite from going through all images.
_ROW_AT_KEY = f"CROSS JOIN images AS i ON {_KEY} = key AND i.missing_since IS NULL"
# Such a row's file is taken to hold what it held while its stat is the same. All of them have a content hash.
_SETTLED = f"i.status <> '{UNREADABLE}' AND i.hashed_ns > 0 AND {_is_settled('i')}"
# In the form of FoundFile, which no file equals where the size is NULL. All of it is in the index `images_walk`.
_KNOWN_BETWEEN = f"""SELECT path, CASE WHEN {_SETTLED} THEN size END, mtime_ns, ctime_ns FROM images AS i
    WHERE missing_since IS NULL AND raw_path IS NULL AND path > ? AND path <= ? ORDER BY path"""
# A probe that did not read the header, of an older program or of a file that cannot be read, says nothing of it.
_HEADER_OF_PROBE = ", ".join(
    f"{column} = CASE WHEN p.header_read THEN p.{column} ELSE images.{column} END"
    for column in ("taken", "taken_offset", "camera", "header_read")
)


@dataclass(frozen=True)
class Comparison:
    """A walk against the registry, before any file is read. What is `excluded` now is not `gone`."""

    found: int
    unchanged: int
    to_read: int
    gone: int
    present: int
    excluded: int


@dataclass(frozen=True)
class Identified:
    """What a scan did to the registry, in images."""

    new: int = 0
    copied: int = 0
    moved: int = 0
    changed: int = 0
    returned: int = 0
    missing: int = 0
    excluded: int = 0


def is_known(connection: sqlite3.Connection, path: str) -> bool:
    """Whether there is a photo of this path."""
    found = connection.execute(
        "SELECT 1 FROM images WHERE ifnull(raw_path, path) = ? AND missing_since IS NULL", (_key(path),)
    )
    return found.fetchone() is not None


def compare(connection: sqlite3.Connection, files: Iterable[FoundFile], report: WalkReport) -> Comparison:
    """Compare what a walk finds with the registry: list in `seen` what is new or changed, in `gone` what was not found.

    A walk in the order of paths costs one pass over the registry's, as nothing is written for a file that is unchanged.
    In any other order the outcome is the same. Of the walk's `report` it hears what is left out, and at the end which
    folders could not be read: photos below them are not gone.
    """
    run = connection.execute
    _create_lists(connection)
    report.on_left_out = lambda path: run("INSERT OR IGNORE INTO left_out VALUES (?)", (_key(path),))
    found = present = 0
    last, files = "", iter(files)
    while some := list(islice(files, _ROWS)):
        named = _named_in_utf8(some)
        end = named[-1].path if named else last
        known = run(_KNOWN_BETWEEN, (last, end)).fetchall()
        if known != some:
            _list_differences(connection, some, known)
        found, present, last = found + len(some), present + len(known), max(last, end)
    run("BEGIN")
    present += run(
        f"INSERT INTO gone (id) SELECT id FROM images AS i WHERE missing_since IS NULL AND {_KEY} > ?", (last,)
    ).rowcount
    run(f"DELETE FROM gone WHERE id IN (SELECT i.id FROM seen {_ROW_AT_KEY})")
    _mark_seen(connection)
    _keep_unreadable(connection, report.unreadable_folders)
    _mark_excluded(connection)
    changed, to_read = run("SELECT count(*), coalesce(sum(state IS NULL), 0) FROM seen").fetchone()
    gone, excluded = run("SELECT count(*), coalesce(sum(excluded), 0) FROM gone").fetchone()
    run("COMMIT")
    return Comparison(found, found - changed, to_read, gone - excluded, present, excluded)


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
        (_seen_row(file) for file in files if file not in same),
    )
    connection.executemany(
        f"INSERT OR IGNORE INTO gone (id) SELECT id FROM images AS i WHERE {_KEY} = ? AND missing_since IS NULL", lost
    )
    connection.execute("COMMIT")


def _mark_seen(connection: sqlite3.Connection) -> None:
    """Take out of `seen` what is unchanged after all, which a walk in another order leaves in; mark what was read."""
    connection.execute(
        f"""DELETE FROM seen WHERE EXISTS (
              SELECT 1 FROM images AS i WHERE {_KEY} = seen.key AND i.missing_since IS NULL AND {_SETTLED}
                AND i.size = seen.size AND i.mtime_ns = seen.mtime_ns AND i.ctime_ns = seen.ctime_ns)"""
    )
    connection.execute(
        f"""UPDATE seen SET state = 'read' WHERE EXISTS (
              SELECT 1 FROM probes AS p WHERE p.key = seen.key AND p.size = seen.size
                AND p.mtime_ns = seen.mtime_ns AND p.ctime_ns = seen.ctime_ns
                AND p.content_hash IS NOT NULL AND {_is_settled("p")})"""
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
    gone = connection.execute(f"SELECT gone.id, {_KEY} FROM gone CROSS JOIN images AS i ON i.id = gone.id").fetchall()
    for image_id, key in gone:
        parts = os.fsdecode(key).split("/")
        above = [_key("/".join(parts[:end]) + "/") for end in range(1, len(parts))]
        marks = ",".join("?" * len(parts))
        found = connection.execute(f"SELECT 1 FROM left_out WHERE key IN ({marks})", (key, *above))
        if found.fetchone() is not None:
            connection.execute("UPDATE gone SET excluded = 1 WHERE id = ?", (image_id,))


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
        f"INSERT OR REPLACE INTO probes VALUES ({', '.join('?' * 17)})",
        [(*_seen_row(p.file), p.hashed_ns, *p[2:8], *p.exif, p.content_hash is not None) for p in probes],
    )
    connection.execute("COMMIT")


def discard_stale_probes(connection: sqlite3.Connection) -> None:
    """Forget what an earlier scan read and this walk did not confirm."""
    connection.execute("DELETE FROM probes WHERE key NOT IN (SELECT key FROM seen WHERE state = 'read')")


def apply(connection: sqlite3.Connection, now: str) -> Identified:
    """Turn the walk and its probes into rows; `now` (ISO 8601) is noted with what is gone.

    The caller's transaction makes it all or nothing.
    """
    connection.create_function("basename", 1, os.path.basename, deterministic=True)
    _judge_by_known_failures(connection)
    _renew_known_paths(connection)
    _list_seeking(connection)
    connection.execute(
        f"""UPDATE images SET missing_since = ? WHERE id IN (
              SELECT id FROM gone UNION ALL
              SELECT i.id FROM seeking {_ROW_AT_KEY} WHERE changed)""",
        (now,),
    )
    _claim_missing_rows(connection)
    identified = _count(connection, now)
    _move_claimed_rows(connection)
    _insert_new_rows(connection)
    connection.execute("DELETE FROM probes")
    return identified


def _judge_by_known_failures(connection: sqlite3.Connection) -> None:
    """A content that could not be decoded is not `ok`, whatever its header says: it is not tried again."""
    connection.execute(
        f"""UPDATE probes SET status = failure.status, reason = failure.reason FROM vector_failures AS failure
            WHERE probes.status = 'ok' AND failure.content_hash = probes.content_hash
              AND failure.status NOT IN ({", ".join("?" * len(OF_ONE_MODALITY))})""",
        OF_ONE_MODALITY,
    )


def _renew_known_paths(connection: sqlite3.Connection) -> None:
    """The same content under the same path, or an unreadable file on one side: the row stays, its stat is renewed.

    So is what is known of its header, if it was to be tried again (`hashed_ns` is 0).
    """
    judged_anew = f"p.content_hash IS NOT images.content_hash OR images.status = '{UNREADABLE}' OR images.hashed_ns = 0"
    # Without LIMIT, SQLite would go through all images and look for a probe of each.
    connection.execute(
        f"""UPDATE images SET size = p.size, mtime_ns = p.mtime_ns, ctime_ns = p.ctime_ns, hashed_ns = p.hashed_ns,
                 content_hash = ifnull(p.content_hash, images.content_hash),
                 width = ifnull(p.width, images.width), height = ifnull(p.height, images.height),
                 format = ifnull(p.format, images.format),
                 {_HEADER_OF_PROBE},
                 status = CASE WHEN {judged_anew} THEN p.status ELSE images.status END,
                 reason = CASE WHEN {judged_anew} THEN p.reason ELSE images.reason END
            FROM (SELECT i.id AS image_id, p.* FROM probes AS p CROSS JOIN seen ON seen.key = p.key
                  CROSS JOIN images AS i ON {_KEY} = p.key AND i.missing_since IS NULL
                  WHERE p.content_hash IS NULL OR i.content_hash IS NULL OR p.content_hash = i.content_hash
                  LIMIT -1) AS p
            WHERE images.id = p.image_id"""
    )


def _list_seeking(connection: sqlite3.Connection) -> None:
    """List in `seeking` every path that needs a row: a missing one of its content, or else a new one.

    `changed` says that a row with another content is at that path.
    """
    connection.execute("DROP TABLE IF EXISTS temp.seeking")
    connection.execute(
        "CREATE TEMP TABLE seeking (key PRIMARY KEY, changed INTEGER, content_hash BLOB, image_id INTEGER)"
    )
    connection.execute("CREATE INDEX temp.seeking_content_hash ON seeking (content_hash)")
    connection.execute(
        """INSERT INTO seeking (key, changed, content_hash)
           SELECT p.key, i.id IS NOT NULL, p.content_hash
           FROM probes AS p JOIN seen ON seen.key = p.key
           LEFT JOIN images AS i ON ifnull(i.raw_path, i.path) = p.key AND i.missing_since IS NULL
           WHERE i.id IS NULL OR p.content_hash <> i.content_hash"""
    )


def _claim_missing_rows(connection: sqlite3.Connection) -> None:
    """Give seeking paths the missing rows of their content: same path first, then same file name, then lowest id."""
    if connection.execute("SELECT NOT EXISTS (SELECT 1 FROM images WHERE missing_since IS NOT NULL)").fetchone()[0]:
        return
    path = "ifnull(raw_path, path)"
    for of_seeker, of_row in (("key", path), ("basename(key)", f"basename({path})"), ("NULL", "NULL")):
        connection.execute(
            f"""WITH seeker AS (
                  SELECT key, content_hash, {of_seeker} AS likeness,
                         row_number() OVER (PARTITION BY content_hash, {of_seeker} ORDER BY key) AS turn
                  FROM seeking WHERE image_id IS NULL AND content_hash IS NOT NULL),
                candidate AS (
                  SELECT id, content_hash, {of_row} AS likeness,
                         row_number() OVER (PARTITION BY content_hash, {of_row} ORDER BY id) AS turn
                  FROM images WHERE missing_since IS NOT NULL
                    AND content_hash IN (SELECT content_hash FROM seeker)
                    AND id NOT IN (SELECT image_id FROM seeking WHERE image_id IS NOT NULL)),
                claim AS (
                  SELECT seeker.key, candidate.id FROM seeker JOIN candidate USING (content_hash, turn)
                  WHERE seeker.likeness IS candidate.likeness)
                UPDATE seeking SET image_id = claim.id FROM claim WHERE claim.key = seeking.key"""
        )


def _count(connection: sqlite3.Connection, now: str) -> Identified:
    row = connection.execute(
        """SELECT
             sum(k.image_id IS NULL AND NOT k.changed AND NOT is_copy),
             sum(k.image_id IS NULL AND NOT k.changed AND is_copy),
             sum(ifnull(i.raw_path, i.path) <> k.key),
             sum(k.image_id IS NULL AND k.changed),
             sum(ifnull(i.raw_path, i.path) = k.key)
           FROM (SELECT *, EXISTS (SELECT 1 FROM images AS twin WHERE twin.content_hash = seeking.content_hash)
                        OR EXISTS (SELECT 1 FROM seeking AS other
                                   WHERE other.content_hash = seeking.content_hash AND other.key < seeking.key)
                        AS is_copy FROM seeking) AS k
           LEFT JOIN images AS i ON i.id = k.image_id"""
    ).fetchone()
    # Photos that are nowhere now: gone, or overwritten by another photo that was moved over them.
    missing = connection.execute(
        """SELECT count(*) FROM images WHERE missing_since = ?
             AND id NOT IN (SELECT image_id FROM seeking WHERE image_id IS NOT NULL)
             AND ifnull(raw_path, path) NOT IN (SELECT key FROM seeking WHERE changed AND image_id IS NULL)
             AND id NOT IN (SELECT id FROM gone WHERE excluded)""",
        (now,),
    ).fetchone()[0]
    excluded = connection.execute(
        """SELECT count(*) FROM gone WHERE excluded
             AND id NOT IN (SELECT image_id FROM seeking WHERE image_id IS NOT NULL)"""
    ).fetchone()[0]
    new, copied, moved, changed, returned = (count or 0 for count in row)
    return Identified(new, copied, moved, changed, returned, missing, excluded)


def _move_claimed_rows(connection: sqlite3.Connection) -> None:
    connection.execute(
        f"""UPDATE images SET path = p.path, raw_path = p.raw_path, size = p.size, mtime_ns = p.mtime_ns,
                 ctime_ns = p.ctime_ns, hashed_ns = p.hashed_ns, missing_since = NULL, {_HEADER_OF_PROBE},
                 status = CASE images.status WHEN ?1 THEN p.status ELSE images.status END,
                 reason = CASE images.status WHEN ?1 THEN p.reason ELSE images.reason END
           FROM seeking AS k JOIN probes AS p ON p.key = k.key WHERE images.id = k.image_id""",
        (UNREADABLE,),
    )


def _insert_new_rows(connection: sqlite3.Connection) -> None:
    """In the order of paths, so that ids are the same on every machine."""
    connection.execute(
        """INSERT INTO images (path, raw_path, size, mtime_ns, ctime_ns, hashed_ns, content_hash, width, height, format,
                               status, reason, taken, taken_offset, camera, header_read)
           SELECT p.path, p.raw_path, p.size, p.mtime_ns, p.ctime_ns, p.hashed_ns, p.content_hash, p.width, p.height,
                  p.format, p.status, p.reason, p.taken, p.taken_offset, p.camera, p.header_read
           FROM seeking AS k JOIN probes AS p ON p.key = k.key WHERE k.image_id IS NULL ORDER BY p.key"""
    )


def _seen_row(file: FoundFile) -> tuple[str | bytes, str, bytes | None, int, int, int]:
    path = file.path
    if path.isascii() or _is_utf8(path):
        return path, path, None, file.size, file.mtime_ns, file.ctime_ns
    raw = os.fsencode(path)
    return raw, printable(raw), raw, file.size, file.mtime_ns, file.ctime_ns


def _key(path: str) -> str | bytes:
    """What a path is known by: its text, or where that is not UTF-8 its bytes."""
    return path if path.isascii() or _is_utf8(path) else os.fsencode(path)


def _named_in_utf8(files: list[FoundFile]) -> list[FoundFile]:
    if _is_utf8("".join([file.path for file in files])):
        return files
    return [file for file in files if _is_utf8(file.path)]


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
