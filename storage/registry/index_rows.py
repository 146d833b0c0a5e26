"""The table `index_rows`: the offsets that index files own, for users of SQL."""

from collections.abc import Iterable
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.registry.registry import Registry


def index_names(registry: Registry) -> list[str]:
    """The indexes that have rows."""
    return [row[0] for row in registry.connection.execute("SELECT DISTINCT index_name FROM index_rows")]


def segment_rows(registry: Registry, index_name: str, segment: str) -> NDArray[np.int64]:
    """The rows of a segment: (N, 2), offset and image id, in the order of offsets."""
    rows = registry.connection.execute(
        'SELECT "offset", image_id FROM index_rows WHERE index_name = ? AND segment = ? ORDER BY "offset"',
        (index_name, segment),
    )
    return np.fromiter(chain.from_iterable(rows), np.int64).reshape(-1, 2)


def mirrored_segments(registry: Registry, index_name: str) -> set[str]:
    """The segments whose rows are in `index_rows`; steps from one to the next, whatever their rows."""
    rows = registry.connection.execute(
        """WITH RECURSIVE known (segment) AS (
               SELECT min(segment) FROM index_rows WHERE index_name = ?1
               UNION ALL
               SELECT (SELECT min(segment) FROM index_rows WHERE index_name = ?1 AND segment > known.segment)
               FROM known WHERE known.segment IS NOT NULL)
           SELECT segment FROM known WHERE segment IS NOT NULL""",
        (index_name,),
    )
    return {row[0] for row in rows}


def record_segment(registry: Registry, index_name: str, segment: str, image_ids: Iterable[int]) -> None:
    """Record a segment's rows; those of images that were forgotten since are left out."""
    registry.connection.executemany(
        "INSERT INTO index_rows SELECT ?1, ?2, ?3, id FROM images WHERE id = ?4",
        ((index_name, segment, offset, image_id) for offset, image_id in enumerate(image_ids)),
    )


def forget_segments(registry: Registry, index_name: str, segments: Iterable[str]) -> None:
    registry.connection.executemany(
        "DELETE FROM index_rows WHERE index_name = ? AND segment = ?",
        ((index_name, segment) for segment in segments),
    )


def forget_index(registry: Registry, index_name: str) -> None:
    """Remove all rows of an index."""
    registry.connection.execute("DELETE FROM index_rows WHERE index_name = ?", (index_name,))
