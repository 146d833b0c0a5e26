"""Which photo is which: a scan's files against the registry's rows, as set operations in SQL.

Nothing here holds the files in memory: `comparison` has put what the walk sees anew into a temporary table, what has to
be read goes through `probes`, and `apply` turns both into rows, in one transaction.
"""

import os
import sqlite3
from dataclasses import dataclass

from imgrec.storage.errors import UNREADABLE
from imgrec.storage.photos.roots import Roots
from imgrec.storage.registry.comparison import root_of
from imgrec.storage.registry.keys import KEY, ROW_AT_KEY
from imgrec.storage.shards import OF_ONE_MODALITY

# Photos that are nowhere now: gone, or overwritten by another photo that was moved over them.
_LOST = """images WHERE missing_since = ?
             AND id NOT IN (SELECT image_id FROM seeking WHERE image_id IS NOT NULL)
             AND ifnull(raw_path, path) NOT IN (SELECT key FROM seeking WHERE changed AND image_id IS NULL)
             AND id NOT IN (SELECT id FROM gone WHERE excluded)"""


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
              SELECT i.id FROM seeking {ROW_AT_KEY} WHERE changed)""",
        (now,),
    )
    _claim_missing_rows(connection)
    identified = _count(connection, now)
    _move_claimed_rows(connection)
    _insert_new_rows(connection)
    connection.execute("DELETE FROM probes")
    return identified


def count_lost(connection: sqlite3.Connection, roots: Roots, now: str) -> dict[str, int]:
    """Count by root the photos that `apply` has just marked missing, but for what was excluded; call it right after."""
    rows = connection.execute(f"SELECT {root_of('path', roots)}, count(*) FROM {_LOST} GROUP BY 1", (now,))
    return dict(rows.fetchall())


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
                 status = CASE WHEN {judged_anew} THEN p.status ELSE images.status END,
                 reason = CASE WHEN {judged_anew} THEN p.reason ELSE images.reason END
            FROM (SELECT i.id AS image_id, p.* FROM probes AS p CROSS JOIN seen ON seen.key = p.key
                  CROSS JOIN images AS i ON {KEY} = p.key AND i.missing_since IS NULL
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
    missing = connection.execute(f"SELECT count(*) FROM {_LOST}", (now,)).fetchone()[0]
    excluded = connection.execute(
        """SELECT count(*) FROM gone WHERE excluded
             AND id NOT IN (SELECT image_id FROM seeking WHERE image_id IS NOT NULL)"""
    ).fetchone()[0]
    new, copied, moved, changed, returned = (count or 0 for count in row)
    return Identified(new, copied, moved, changed, returned, missing, excluded)


def _move_claimed_rows(connection: sqlite3.Connection) -> None:
    connection.execute(
        """UPDATE images SET path = p.path, raw_path = p.raw_path, size = p.size, mtime_ns = p.mtime_ns,
                 ctime_ns = p.ctime_ns, hashed_ns = p.hashed_ns, missing_since = NULL,
                 status = CASE images.status WHEN ?1 THEN p.status ELSE images.status END,
                 reason = CASE images.status WHEN ?1 THEN p.reason ELSE images.reason END
           FROM seeking AS k JOIN probes AS p ON p.key = k.key WHERE images.id = k.image_id""",
        (UNREADABLE,),
    )


def _insert_new_rows(connection: sqlite3.Connection) -> None:
    """In the order of paths, so that ids are the same on every machine."""
    connection.execute(
        """INSERT INTO images (path, raw_path, size, mtime_ns, ctime_ns, hashed_ns, content_hash, width, height, format,
                               status, reason)
           SELECT p.path, p.raw_path, p.size, p.mtime_ns, p.ctime_ns, p.hashed_ns, p.content_hash, p.width, p.height,
                  p.format, p.status, p.reason
           FROM seeking AS k JOIN probes AS p ON p.key = k.key WHERE k.image_id IS NULL ORDER BY p.key"""
    )
