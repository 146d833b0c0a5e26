"""The vectors of images, and what their fingerprints stand for."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.names import vector_table
from imgrec.storage.registry.database import Database
from imgrec.storage.registry.migrations import table_names
from imgrec.storage.registry.sql import LIVE, marks_of, slices_of


class Vectors(Database):
    """The part of the registry that is about vectors."""

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
        for some in slices_of(ids):
            rows = self.connection.execute(
                f"""SELECT image_id, vector FROM {vector_table(modality)}
                    WHERE fingerprint = ? AND image_id IN ({marks_of(some)})""",
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
