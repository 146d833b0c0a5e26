"""Pieces of SQL that several files of this room use."""

from collections.abc import Iterator, Sequence

from imgrec.storage.names import vector_table

# An image that is there, could be read, and so takes part in indexes.
LIVE = "status = 'ok' AND missing_since IS NULL"
VALUES_PER_QUERY = 500


def lacks_outcome(modality: str, mark: str) -> str:
    """SQL that says whether a row of `images` has no vector of the fingerprint at `mark` and no reason for that."""
    return f"""(NOT {holds_vector(modality, mark)} AND NOT EXISTS (
        SELECT 1 FROM vector_failures AS failure
        WHERE failure.content_hash = images.content_hash AND failure.fingerprint = {mark}))"""


def holds_vector(modality: str, mark: str) -> str:
    return f"EXISTS (SELECT 1 FROM {vector_table(modality)} WHERE image_id = images.id AND fingerprint = {mark})"


def slices_of(ids: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), VALUES_PER_QUERY):
        yield list(ids[start : start + VALUES_PER_QUERY])


def marks_of(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
