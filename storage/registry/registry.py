"""The SQLite registry: which images there are, and what is known of them."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.errors import CRASHED_DECODER, DECODER_HANGS, OUT_OF_MEMORY, UNREADABLE
from imgrec.storage.names import vector_table
from imgrec.storage.photos.paths import printable
from imgrec.storage.registry.database import Database
from imgrec.storage.registry.migrations import table_names
from imgrec.storage.shards import FAILED_IN_ONE, OF_ONE_MODALITY

# An image that is there, could be read, and so takes part in indexes.
LIVE = "status = 'ok' AND missing_since IS NULL"
_VALUES_PER_QUERY = 500


@dataclass(frozen=True)
class ImageRow:
    """One image for people and programs; `path` is printable, `raw_path` opens the file."""

    id: int
    path: str
    raw_path: bytes | None
    status: str
    reason: str | None

    @property
    def file_path(self) -> str:
        return self.path if self.raw_path is None else os.fsdecode(self.raw_path)


class Registry(Database):
    """Images, their vectors, and the shards those came from."""

    # Images

    def count_images(self) -> dict[str, int]:
        """Count images that are ok, failed and missing; each of the counts is of an index."""
        total, failed, missing = self.connection.execute(
            """SELECT (SELECT count(*) FROM images),
                      (SELECT count(*) FROM images WHERE status <> 'ok' AND +missing_since IS NULL),
                      (SELECT count(*) FROM images WHERE missing_since IS NOT NULL)"""
        ).fetchone()
        return {"ok": total - failed - missing, "failed": failed, "missing": missing}

    def failures(self, fingerprints: Iterable[str] = ()) -> Iterator[ImageRow]:
        """Yield the images that are there and cannot be used, and those that an embedder of `fingerprints` fails on."""
        given = list(fingerprints)
        rows = self.connection.execute(f"SELECT * FROM ({_failed(given)}) ORDER BY +id, reason", given)
        yield from (ImageRow(*row) for row in rows)

    def count_failures(self, fingerprints: Iterable[str] = ()) -> dict[str, int]:
        """Count what `failures` yields by status."""
        given = list(fingerprints)
        rows = self.connection.execute(f"SELECT status, count(*) FROM ({_failed(given)}) GROUP BY status", given)
        return dict(rows.fetchall())

    def images(self, ids: Sequence[int]) -> dict[int, ImageRow]:
        """Return the rows of `ids`; ids that are unknown are left out."""
        found = {}
        for some in _slices(ids):
            rows = self.connection.execute(
                f"SELECT id, path, raw_path, status, reason FROM images WHERE id IN ({_marks(some)})", some
            )
            found.update({row[0]: ImageRow(*row) for row in rows})
        return found

    def paths(self, ids: Sequence[int]) -> list[tuple[str, str] | None]:
        """Return the path of each id, as it is printed and as it is opened; None for ids that are unknown.

        Each id has a subquery of its own: SQLite sorts the values of an IN first, which costs a fifth of a look-up.
        """
        found: list[tuple[str, str] | None] = []
        for some in _slices(ids):
            row = self.connection.execute(f"SELECT {','.join([_PATH] * len(some))}", some).fetchone()
            found += [
                (path, path) if isinstance(path, str) else path and (printable(path), os.fsdecode(path)) for path in row
            ]
        return found

    def content_hashes(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Map ids to what their images hold."""
        found: dict[int, bytes] = {}
        for some in _slices(ids):
            rows = self.connection.execute(f"SELECT id, content_hash FROM images WHERE id IN ({_marks(some)})", some)
            found.update(rows.fetchall())
        return found

    def live_ids(self, modality: str, fingerprint: str) -> NDArray[np.int64]:
        """Return the ids of the live images that have this vector, in ascending order."""
        return self.complete_ids({modality: fingerprint})

    def complete_ids(self, fingerprints: Mapping[str, str], touched_only: bool = False) -> NDArray[np.int64]:
        """Return the ids, ascending, of the live images that have one of these vectors (by modality) and wait for none.

        With `touched_only`, of those among them that changed since indexes were last brought in step.
        """
        images = "touched CROSS JOIN images ON images.id = touched.image_id" if touched_only else "images"
        has = [_has_vector(modality, f"?{place}") for place, modality in enumerate(fingerprints, 1)]
        lacks = [lacks_outcome(modality, f"?{place}") for place, modality in enumerate(fingerprints, 1)]
        of_several = f"AND NOT ({' OR '.join(lacks)})" if len(lacks) > 1 else ""
        rows = self.connection.execute(
            f"SELECT id FROM {images} WHERE {LIVE} AND ({' OR '.join(has)}) {of_several} ORDER BY id",
            list(fingerprints.values()),
        )
        return np.fromiter(chain.from_iterable(rows), np.int64)

    def touched_ids(self) -> NDArray[np.int64]:
        """Return the ids, ascending, of the images that changed since indexes were last brought in step."""
        rows = self.connection.execute("SELECT image_id FROM touched ORDER BY image_id")
        return np.fromiter(chain.from_iterable(rows), np.int64)

    def waiting_ids(self, modality: str, fingerprint: str) -> NDArray[np.int64]:
        """Return the ids of the live images that have neither this vector nor a reason why not, in ascending order."""
        rows = self.connection.execute(
            f"SELECT id FROM images WHERE {LIVE} AND {lacks_outcome(modality, '?1')} ORDER BY id", (fingerprint,)
        )
        return np.fromiter(chain.from_iterable(rows), np.int64)

    def live_ids_of(self, content_hashes: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """List (content hash, id) of the live images that hold these contents."""
        found: list[tuple[bytes, int]] = []
        for start in range(0, len(content_hashes), _VALUES_PER_QUERY):
            some = content_hashes[start : start + _VALUES_PER_QUERY]
            found += self.connection.execute(
                f"SELECT content_hash, id FROM images WHERE {LIVE} AND content_hash IN ({_marks(some)})", some
            ).fetchall()
        return found

    def unknown_contents(self, content_hashes: Sequence[bytes]) -> list[bytes]:
        """List those of these contents that no image has, missing or not."""
        known: set[bytes] = set()
        for start in range(0, len(content_hashes), _VALUES_PER_QUERY):
            some = content_hashes[start : start + _VALUES_PER_QUERY]
            rows = self.connection.execute(
                f"SELECT content_hash FROM images WHERE content_hash IN ({_marks(some)})", some
            )
            known.update(chain.from_iterable(rows))
        return [content for content in content_hashes if content not in known]

    def paths_of(self, content_hashes: Iterable[bytes]) -> list[str]:
        """List a path, as it is opened, of each of these contents that is there."""
        rows = [
            self.connection.execute(
                """SELECT path, raw_path FROM images WHERE content_hash = ? AND missing_since IS NULL
                   ORDER BY id LIMIT 1""",
                (content_hash,),
            ).fetchone()
            for content_hash in content_hashes
        ]
        return [row[0] if row[1] is None else os.fsdecode(row[1]) for row in rows if row]

    def mark_failed(self, failures: Iterable[tuple[bytes, str, str]]) -> None:
        """Give images their (content hash, status, reason)."""
        self.connection.executemany("UPDATE images SET status = ?2, reason = ?3 WHERE content_hash = ?1", failures)

    def clear_failures(self, fingerprint: str, content_hashes: Iterable[bytes]) -> None:
        """Let vectors outweigh failures: what has one was tried again, with success."""
        contents = [(content_hash,) for content_hash in content_hashes]
        self.connection.executemany(
            "DELETE FROM vector_failures WHERE content_hash = ? AND fingerprint = ?",
            ((*content, fingerprint) for content in contents),
        )
        of_one = ", ".join(f"'{status}'" for status in OF_ONE_MODALITY)
        self.connection.executemany(
            f"""UPDATE images SET status = 'ok', reason = NULL
                WHERE content_hash = ? AND status NOT IN ('ok', '{UNREADABLE}') AND NOT EXISTS (
                  SELECT 1 FROM vector_failures AS failure
                  WHERE failure.content_hash = images.content_hash AND failure.status NOT IN ({of_one}))""",
            contents,
        )

    def has_vector(self, modality: str, fingerprint: str, content_hash: bytes) -> bool:
        """Whether an image with this content has a vector."""
        row = self.connection.execute(
            f"""SELECT EXISTS (SELECT 1 FROM images JOIN {vector_table(modality)} ON image_id = id
                               WHERE content_hash = ? AND fingerprint = ?)""",
            (content_hash, fingerprint),
        ).fetchone()
        return bool(row[0])

    def decoder_failures(self) -> dict[bytes, tuple[str, str]]:
        """Map the contents that ended the process that decoded them to status and reason."""
        rows = self.connection.execute(
            """SELECT content_hash, status, reason FROM images
               WHERE status <> 'ok' AND status IN (?, ?, ?) AND content_hash IS NOT NULL""",
            (CRASHED_DECODER, DECODER_HANGS, OUT_OF_MEMORY),
        )
        return {content_hash: (status, reason) for content_hash, status, reason in rows}

    def reserve_ids(self, last: int) -> None:
        """Give no id up to `last` to a new image."""
        self.connection.execute(
            """INSERT INTO sqlite_sequence (name, seq) SELECT 'images', 0
               WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'images')"""
        )
        self.connection.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'images'", (last,))

    # Vectors

    def register_fingerprint(self, fingerprint: str, modality: str, dim: int, spec: Mapping[str, Any]) -> None:
        """Record what a fingerprint stands for, and make its modality's table."""
        self.create_vector_table(modality)
        self.connection.execute(
            "INSERT OR IGNORE INTO fingerprints (fingerprint, modality, dim, spec) VALUES (?, ?, ?, ?)",
            (fingerprint, modality, dim, json.dumps(dict(spec), sort_keys=True)),
        )

    def create_vector_table(self, modality: str) -> None:
        """Make a modality's table of vectors, if it is not there, and the triggers that follow its changes."""
        table = vector_table(modality)
        if table not in table_names(self.connection):
            # It may have been lost, with vectors that were followed.
            self.connection.execute("UPDATE fingerprints SET tracked = 0 WHERE modality = ?", (modality,))
            self.connection.execute(
                f"""CREATE TABLE {table} (
                    image_id INTEGER NOT NULL REFERENCES images (id),
                    fingerprint TEXT NOT NULL REFERENCES fingerprints (fingerprint),
                    vector BLOB NOT NULL,
                    PRIMARY KEY (image_id, fingerprint))"""
            )
        for name, event, row in (("added", "INSERT", "NEW"), ("removed", "DELETE", "OLD")):
            self.connection.execute(
                f"""CREATE TRIGGER IF NOT EXISTS {table}_{name} AFTER {event} ON {table}
                    WHEN EXISTS (SELECT 1 FROM fingerprints WHERE fingerprint = {row}.fingerprint AND tracked)
                    BEGIN INSERT OR IGNORE INTO touched VALUES ({row}.image_id); END"""
            )

    def modalities(self) -> list[str]:
        """The modalities that have a table of vectors."""
        rows = self.connection.execute("SELECT DISTINCT modality FROM fingerprints ORDER BY modality")
        return [row[0] for row in rows]

    def fingerprints(self) -> dict[str, str]:
        """Map every known fingerprint to its modality."""
        return dict(self.connection.execute("SELECT fingerprint, modality FROM fingerprints").fetchall())

    def dim(self, fingerprint: str) -> int | None:
        """The dimension of a known fingerprint's vectors."""
        row = self.connection.execute("SELECT dim FROM fingerprints WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return None if row is None else int(row[0])

    def forget_vectors(self, modality: str, fingerprint: str, content_hashes: Iterable[bytes]) -> None:
        """Remove the vectors of these contents, which are pending then."""
        self.connection.executemany(
            f"""DELETE FROM {vector_table(modality)} WHERE fingerprint = ?
                AND image_id IN (SELECT id FROM images WHERE content_hash = ?)""",
            ((fingerprint, content_hash) for content_hash in content_hashes),
        )

    def forget_fingerprint(self, fingerprint: str, modality: str) -> None:
        """Remove everything that is known under a fingerprint."""
        with self.transaction():
            for table in (vector_table(modality), "vector_failures", "shards", "fingerprints"):
                self.connection.execute(f"DELETE FROM {table} WHERE fingerprint = ?", (fingerprint,))

    def count_vectors(self, modality: str, fingerprint: str) -> int:
        """Count the live images that have this vector."""
        count = self.connection.execute(
            f"""SELECT count(*) FROM {vector_table(modality)} JOIN images ON images.id = image_id
                WHERE fingerprint = ? AND {LIVE}""",
            (fingerprint,),
        ).fetchone()[0]
        return int(count)

    def vectors(self, modality: str, fingerprint: str, ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return the stored vectors of `ids`, each (dim,) float32; images without one are left out."""
        found = {}
        for some in _slices(ids):
            rows = self.connection.execute(
                f"""SELECT image_id, vector FROM {vector_table(modality)}
                    WHERE fingerprint = ? AND image_id IN ({_marks(some)})""",
                (fingerprint, *some),
            )
            found.update({image_id: np.frombuffer(vector, "<f4") for image_id, vector in rows})
        return found

    def vector(self, modality: str, fingerprint: str, image_id: int) -> NDArray[np.float32] | None:
        """Return the stored vector of one image, (dim,) float32, or None."""
        row = self.connection.execute(
            f"SELECT vector FROM {vector_table(modality)} WHERE image_id = ? AND fingerprint = ?",
            (image_id, fingerprint),
        ).fetchone()
        return None if row is None else np.frombuffer(row[0], "<f4")

    def vector_failure(self, fingerprint: str, image_id: int) -> tuple[str, str] | None:
        """Return why an image has no vector of this kind, (status, reason), or None where nothing is known of it."""
        row: tuple[str, str] | None = self.connection.execute(
            """SELECT failure.status, failure.reason FROM images JOIN vector_failures AS failure USING (content_hash)
               WHERE images.id = ? AND failure.fingerprint = ?""",
            (image_id, fingerprint),
        ).fetchone()
        return row

    def copy_vectors(self, modality: str, fingerprint: str) -> int:
        """Give copies of known contents the vectors that those have; return how many.

        Once a fingerprint is tracked, only images that changed can be such copies.
        """
        table = vector_table(modality)
        tracked = self.connection.execute(
            "SELECT 1 FROM fingerprints WHERE fingerprint = ? AND tracked", (fingerprint,)
        ).fetchone()
        changed = "touched CROSS JOIN images AS copy ON copy.id = touched.image_id" if tracked else "images AS copy"
        return self.connection.execute(
            f"""INSERT INTO {table} (image_id, fingerprint, vector)
                SELECT copy.id, known.fingerprint, known.vector
                FROM {changed} CROSS JOIN images AS original ON original.content_hash = copy.content_hash
                JOIN {table} AS known ON known.image_id = original.id AND known.fingerprint = ?1
                WHERE copy.status = 'ok' AND copy.missing_since IS NULL AND NOT EXISTS (
                    SELECT 1 FROM {table} WHERE image_id = copy.id AND fingerprint = ?1)
                GROUP BY copy.id""",
            (fingerprint,),
        ).rowcount


def lacks_outcome(modality: str, mark: str) -> str:
    """SQL that says whether a row of `images` has no vector of the fingerprint at `mark` and no reason for that."""
    return f"""(NOT {_has_vector(modality, mark)} AND NOT EXISTS (
        SELECT 1 FROM vector_failures AS failure
        WHERE failure.content_hash = images.content_hash AND failure.fingerprint = {mark}))"""


def _has_vector(modality: str, mark: str) -> str:
    return f"EXISTS (SELECT 1 FROM {vector_table(modality)} WHERE image_id = images.id AND fingerprint = {mark})"


_PATH = "(SELECT ifnull(raw_path, path) FROM images WHERE id = ?)"


def _failed(fingerprints: Sequence[str]) -> str:
    # `+` keeps SQLite from the index of all paths, CROSS from looking for a failure of every image.
    return f"""SELECT id, path, raw_path, status, reason FROM images WHERE +missing_since IS NULL AND status <> 'ok'
        UNION ALL
        SELECT images.id, path, raw_path, failure.status, failure.reason
        FROM vector_failures AS failure CROSS JOIN images ON images.content_hash = failure.content_hash
        WHERE images.status = 'ok' AND missing_since IS NULL AND failure.status IN {FAILED_IN_ONE}
          AND fingerprint IN ({_marks(fingerprints)})"""


def _slices(ids: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), _VALUES_PER_QUERY):
        yield list(ids[start : start + _VALUES_PER_QUERY])


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
