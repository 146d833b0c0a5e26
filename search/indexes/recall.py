"""How many of the true nearest neighbours a graph finds."""

import faiss
import numpy as np

from imgrec.search.indexes.segment import Segment


def measure_recall(segment: Segment, ef_search: int, k: int, sample: int) -> float | None:
    """Recall@k of an HNSW segment against exact search over the same rows, for `sample` of its own rows as queries.

    Counted by score: a hit as good as the k-th true one is right, since exact copies may come in any order. The
    sample is the same for the same number of rows. None if there is nothing to measure.
    """
    rows = segment.index.ntotal
    if rows == 0 or sample == 0:
        return None
    k = min(k, rows)
    offsets = np.random.default_rng(0).choice(rows, min(sample, rows), replace=False)
    storage = faiss.downcast_index(segment.index.storage)
    queries = np.stack([storage.reconstruct(int(offset)) for offset in offsets])
    exact, _ = storage.search(queries, k)
    found, _ = segment.index.search(queries, k, params=faiss.SearchParametersHNSW(efSearch=max(ef_search, k)))
    return float((found >= exact[:, -1:] - 1e-6).mean())
