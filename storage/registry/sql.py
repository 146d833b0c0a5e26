"""Pieces of SQL that several files of this room use."""

from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

from imgrec.storage.names import vector_table
from imgrec.storage.photos.roots import end_of, prefix_of

# An image that is there, could be read, and so takes part in indexes.
LIVE = "status = 'ok' AND missing_since IS NULL"
VALUES_PER_QUERY = 500

T = TypeVar("T")


def lacks_outcome(modality: str, mark: str) -> str:
    """SQL that says whether a row of `images` has no vector of the fingerprint at `mark` and no reason for that."""
    return f"""(NOT {holds_vector(modality, mark)} AND NOT EXISTS (
        SELECT 1 FROM vector_failures AS failure
        WHERE failure.content_hash = images.content_hash AND failure.fingerprint = {mark}))"""


def holds_vector(modality: str, mark: str) -> str:
    return f"EXISTS (SELECT 1 FROM {vector_table(modality)} WHERE image_id = images.id AND fingerprint = {mark})"


def outside(left_alone: Collection[str]) -> tuple[str, list[str]]:
    """SQL that says whether an image is in none of these named roots, and the values of its question marks."""
    edges = [edge for name in left_alone for edge in (prefix_of(name), end_of(name))]
    return " AND ".join(["NOT (path >= ? AND path < ?)"] * len(left_alone)) or "1", edges


def slices_of(values: Sequence[T]) -> Iterator[list[T]]:
    for start in range(0, len(values), VALUES_PER_QUERY):
        yield list(values[start : start + VALUES_PER_QUERY])


def marks_of(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
