"""The true nearest neighbours of a few vectors, found while all stream by, and what share of them a search finds."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from imgrec.search.indexes.vectors import Ids, Vectors

K = 10
# A hit is right when its score reaches that of the k-th true neighbour, but for rounding.
TOLERANCE = 1e-6


class Truth:
    """The K best scores of each query (N, dim) among all vectors but its own."""

    def __init__(self, query_ids: Ids, queries: Vectors) -> None:
        self.query_ids = query_ids
        self.queries = queries
        self.scores: Vectors = np.full((len(queries), K), -np.inf, np.float32)

    def watch(self, batches: Iterable[tuple[Ids, Vectors]]) -> Iterator[tuple[Ids, Vectors]]:
        """Yield the batches on, and look at each."""
        for ids, vectors in batches:
            self.see(ids, vectors)
            yield ids, vectors

    def see(self, ids: Ids, vectors: Vectors) -> None:
        if len(self.queries) == 0:
            return
        scores = self.queries @ vectors.T
        scores[self.query_ids[:, np.newaxis] == ids] = -np.inf
        both = np.concatenate([self.scores, scores], axis=1)
        self.scores = -np.partition(-both, K - 1, axis=1)[:, :K]

    def recall(self, found: Callable[[int], Vectors]) -> float:
        """The mean share of true neighbours found; `found(query)` gives the exact scores of its hits, its own left out.

        Where there are fewer than K others, all there are count.
        """
        shares = []
        for query, best in enumerate(self.scores):
            true = best[np.isfinite(best)]
            if len(true):
                right = (found(query) >= true.min() - TOLERANCE).sum()
                shares.append(min(int(right), len(true)) / len(true))
        return float(np.mean(shares)) if shares else 1.0
