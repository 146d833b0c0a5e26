"""Which images there are, and what is known of their contents."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.errors import CRASHED_DECODER, DECODER_HANGS, OUT_OF_MEMORY, UNREADABLE
from imgrec.storage.names import vector_table
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.roots import end_of, prefix_of
from imgrec.storage.registry.database import Database
from imgrec.storage.registry.sql import LIVE, VALUES_PER_QUERY, holds_vector, lacks_outcome, marks_of, slices_of
from imgrec.storage.shards import FAILED_IN_ONE, OF_ONE_MODALITY

_PATH = "(SELECT ifnull(raw_path, path) FROM images WHERE id = ?)"


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


class Images(Database):
    """The part of the registry that is about images."""

    def count_images(self, root: str = "") -> dict[str, int]:
        """Count images that are ok, failed and missing, of all roots or of one; each of the counts is of an index."""
        present = "WHERE missing_since IS NULL AND path >= :first AND path < :end" if root else ""
        of_root = "AND +path >= :first AND +path < :end" if root else ""  # `+`: not by the index of paths
        count, failed, missing = self.connection.execute(
            f"""SELECT (SELECT count(*) FROM images {present}),
                       (SELECT count(*) FROM images WHERE status <> 'ok' AND +missing_since IS NULL {of_root}),
                       (SELECT count(*) FROM images WHERE missing_since IS NOT NULL {of_root})""",
            {"first": prefix_of(root), "end": end_of(root)},
        ).fetchone()
        return {"ok": count - failed - (0 if root else missing), "failed": failed, "missing": missing}

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
        for some in slices_of(ids):
            rows = self.connection.execute(
                f"SELECT id, path, raw_path, status, reason FROM images WHERE id IN ({marks_of(some)})", some
            )
            found.update({row[0]: ImageRow(*row) for row in rows})
        return found

    def paths(self, ids: Sequence[int]) -> list[tuple[str, str] | None]:
        """Return the path of each id, as it is printed and as it is opened; None for ids that are unknown.

        Each id has a subquery of its own: SQLite sorts the values of an IN first, which costs a fifth of a look-up.
        """
        found: list[tuple[str, str] | None] = []
        for some in slices_of(ids):
            row = self.connection.execute(f"SELECT {','.join([_PATH] * len(some))}", some).fetchone()
            found += [
                (path, path) if isinstance(path, str) else path and (printable(path), os.fsdecode(path)) for path in row
            ]
        return found

    def content_hashes(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Map ids to what their images hold."""
        found: dict[int, bytes] = {}
        for some in slices_of(ids):
            rows = self.connection.execute(f"SELECT id, content_hash FROM images WHERE id IN ({marks_of(some)})", some)
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
        has = [holds_vector(modality, f"?{place}") for place, modality in enumerate(fingerprints, 1)]
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
        for start in range(0, len(content_hashes), VALUES_PER_QUERY):
            some = content_hashes[start : start + VALUES_PER_QUERY]
            found += self.connection.execute(
                f"SELECT content_hash, id FROM images WHERE {LIVE} AND content_hash IN ({marks_of(some)})", some
            ).fetchall()
        return found

    def unknown_contents(self, content_hashes: Sequence[bytes]) -> list[bytes]:
        """List those of these contents that no image has, missing or not."""
        known: set[bytes] = set()
        for start in range(0, len(content_hashes), VALUES_PER_QUERY):
            some = content_hashes[start : start + VALUES_PER_QUERY]
            rows = self.connection.execute(
                f"SELECT content_hash FROM images WHERE content_hash IN ({marks_of(some)})", some
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
        contents = list(content_hashes)
        failed = []
        for some in slices_of(contents):  # most have never failed, and a question costs less than a change of nothing
            run, marks = self.connection.execute, marks_of(some)
            given = [*some, fingerprint]
            run(f"DELETE FROM vector_failures WHERE content_hash IN ({marks}) AND fingerprint = ?", given)
            failed += run(
                f"""SELECT content_hash FROM images
                    WHERE content_hash IN ({marks}) AND status NOT IN ('ok', '{UNREADABLE}')""",
                some,
            ).fetchall()
        of_one = ", ".join(f"'{status}'" for status in OF_ONE_MODALITY)
        self.connection.executemany(
            f"""UPDATE images SET status = 'ok', reason = NULL
                WHERE content_hash = ? AND status NOT IN ('ok', '{UNREADABLE}') AND NOT EXISTS (
                  SELECT 1 FROM vector_failures AS failure
                  WHERE failure.content_hash = images.content_hash AND failure.status NOT IN ({of_one}))""",
            failed,
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


def _failed(fingerprints: Sequence[str]) -> str:
    # `+` keeps SQLite from the index of all paths, CROSS from looking for a failure of every image.
    return f"""SELECT id, path, raw_path, status, reason FROM images WHERE +missing_since IS NULL AND status <> 'ok'
        UNION ALL
        SELECT images.id, path, raw_path, failure.status, failure.reason
        FROM vector_failures AS failure CROSS JOIN images ON images.content_hash = failure.content_hash
        WHERE images.status = 'ok' AND missing_since IS NULL AND failure.status IN {FAILED_IN_ONE}
          AND fingerprint IN ({marks_of(fingerprints)})"""
