"""Exact scores of queries against stored vectors, streamed: memory does not grow with the library."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from imgrec.search.evaluation.engine import Rows, StoredVectors
from imgrec.search.indexes.vectors import Ids, Vectors

# (queries, images) float32: cosines of one modality, or a weighted mean of several modalities' cosines.
Scores = NDArray[np.float32]
Weights = Mapping[str, float]

# As far as sums of floats of another order may differ.
ROUNDING = 2e-6
# What a block of images takes at most: its vectors, and its scores in each modality and together.
BLOCK_BYTES = 2**27


def score_blocks(
    stored: StoredVectors, ids: Ids, queries: Rows, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[tuple[Ids, dict[str, Scores]]]:
    """Yield (ids, cosines by modality, (queries, ids)) until all of `ids` (ascending) were compared with all queries.

    What has no vector in a modality has the cosine 0 there.
    """
    count = len(next(iter(queries.values())))
    per_image = stored.bytes_per_image + 4 * count * (len(queries) + 2)
    done = 0
    for some, rows in stored.stream(ids, max(64, BLOCK_BYTES // per_image)):
        yield some, {modality: queries[modality] @ rows[modality].T for modality in queries}
        done += len(some)
        on_progress(done, len(ids))


def fuse(cosines: Mapping[str, Scores], weights: Weights) -> Scores:
    """Return the weighted mean of the cosines, as a new array."""
    total: Scores | None = None
    for modality, weight in weights.items():
        part = cosines[modality] * np.float32(weight)
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None, "no weight"
    return total


def pair_scores(queries: Rows, images: Rows, weights: Weights) -> Vectors:
    """Score row i of the queries against row i of the images: (N,)."""
    cosines = {name: np.einsum("nd,nd->n", queries[name], images[name], optimize=True) for name in weights}
    return fuse(cosines, weights)


class Nearest:
    """The k best images of each query among those that were added."""

    def __init__(self, queries: int, k: int) -> None:
        self._heap: Any = faiss.ResultHeap(queries, k, keep_max=True)

    def add(self, ids: Ids, scores: Scores) -> None:
        """Take scores (queries, ids) of further images; those that are not to count are -inf."""
        scores = np.ascontiguousarray(scores)
        pointers = faiss.swig_ptr(scores), faiss.swig_ptr(np.ascontiguousarray(ids))
        self._heap.heaps.addn_with_ids(len(ids), *pointers, 0)

    def best(self) -> tuple[Vectors, Ids]:
        """Scores and ids, both (queries, k), best first; short rows end in -inf and -1. Nothing is added after it."""
        self._heap.finalize()
        scores = np.where(self._heap.I < 0, -np.inf, self._heap.D).astype(np.float32)
        return scores, np.where(np.isfinite(scores), self._heap.I, -1)


class Excluded:
    """Images that are not to count for some queries: pairs of a query's row and an image's id."""

    def __init__(self, rows: Ids, ids: Ids) -> None:
        order = np.argsort(ids, kind="stable")
        self._rows, self._ids = rows[order], ids[order]

    def apply(self, ids: Ids, scores: Scores) -> None:
        """Set the scores (queries, ids) of excluded pairs to -inf, in place."""
        order = np.argsort(ids, kind="stable")
        ordered = ids[order]
        first, last = np.searchsorted(self._ids, [ordered[0], ordered[-1] + 1])
        places = np.searchsorted(ordered, self._ids[first:last])
        there = ordered[np.minimum(places, len(ids) - 1)] == self._ids[first:last]
        scores[self._rows[first:last][there], order[places[there]]] = -np.inf
