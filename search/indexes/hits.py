"""Rows that were found → image ids, best first."""

from collections.abc import Sequence

import numpy as np

from imgrec.search.indexes.kinds.kind import NO_ROW
from imgrec.search.indexes.segment import Segment
from imgrec.search.indexes.vectors import Ids, Mask, Offsets, Vectors

NO_ID = -1


def merge_hits(results: Sequence[tuple[Vectors, Ids]], queries: int, k: int) -> tuple[Vectors, Ids]:
    """The k best of several results, each scores and ids of (queries, any number)."""
    if len(results) == 1:
        return results[0]
    if not results:
        return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), NO_ID, np.int64)
    scores = np.concatenate([result[0] for result in results], axis=1)
    ids = np.concatenate([result[1] for result in results], axis=1)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, best, axis=1), np.take_along_axis(ids, best, axis=1)


def with_ids(segment: Segment, dead: Mask | None, scores: Vectors, offsets: Offsets) -> tuple[Vectors, Ids]:
    """Replace the rows of a segment by the ids that they belong to, but for those `dead` (one value an id)."""
    if segment.has_copies:
        return _with_copies(segment, dead, scores, offsets)
    ids = segment.ids[offsets]
    if any(last < 0 for last in offsets[:, -1].tolist()):
        ids[offsets == NO_ROW] = NO_ID
    return scores, ids


def _with_copies(segment: Segment, dead: Mask | None, scores: Vectors, offsets: Offsets) -> tuple[Vectors, Ids]:
    """Give every row all of its living ids, and keep the first k."""
    k = scores.shape[1]
    all_scores, all_ids = np.full_like(scores, -np.inf), np.full_like(offsets, NO_ID)
    for query, rows in enumerate(offsets):
        place = 0
        for row, score in zip(rows[rows >= 0], scores[query], strict=False):
            span = slice(segment.starts[row], segment.starts[row + 1])
            ids = segment.ids[span] if dead is None else segment.ids[span][~dead[span]]
            ids = ids[: k - place]
            all_ids[query, place : place + len(ids)] = ids
            all_scores[query, place : place + len(ids)] = score
            place += len(ids)
            if place == k:
                break
    return all_scores, all_ids
