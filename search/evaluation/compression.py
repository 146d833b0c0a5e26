"""How many of a vector's neighbours are still its neighbours after it was made shorter."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

K = 10
_QUERIES_AT_ONCE = 512


def neighbours(rows: Vectors, queries: NDArray[np.intp] | None = None, k: int = K) -> NDArray[np.intp]:
    """The `k` nearest other rows of each of `queries` (default: all rows), by inner product, exactly: (Q, k)."""
    asked = np.arange(len(rows)) if queries is None else queries
    found = []
    for start in range(0, len(asked), _QUERIES_AT_ONCE):
        some = asked[start : start + _QUERIES_AT_ONCE]
        products = rows[some] @ rows.T
        products[np.arange(len(some)), some] = -np.inf
        found.append(np.argpartition(-products, k - 1, axis=1)[:, :k])
    return np.concatenate(found)


def recall_at_10(
    rows: Vectors, shorter: Vectors, queries: NDArray[np.intp] | None = None, known: NDArray[np.intp] | None = None
) -> float:
    """The share of each row's 10 nearest that are so among the `shorter` rows too; `known` spares finding them again.

    Rows (N, dim) and shorter ones (N, any dim) are of the same pictures; of fewer than 11 it is of all others.
    """
    k = min(K, len(rows) - 1)
    if k < 1:
        return 1.0
    before = neighbours(rows, queries, k) if known is None else known
    after = neighbours(shorter, queries, k)
    return float((before[:, :, None] == after[:, None, :]).any(2).mean())
