"""How many of a vector's neighbours are still its neighbours after it was made shorter."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

K = 10
_QUERIES_AT_ONCE = 512
_SCORED_AT_ONCE = 256
_TOLERANCE = 1e-6


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
    asked = np.arange(len(rows)) if queries is None else queries
    before = neighbours(rows, asked, k) if known is None else known
    return share_kept(rows, asked, before, neighbours(shorter, asked, k))


def share_kept(rows: Vectors, asked: NDArray[np.intp], true: NDArray[np.intp], found: NDArray[np.intp]) -> float:
    """Which share of neighbours `found` (Q, k) of the rows `asked` are as near as the `true` ones (Q, k).

    Counted by score, since of copies any is as good as another: what is found is right when its product with the row
    reaches the least of the true ones'.
    """
    right = []
    for start in range(0, len(asked), _SCORED_AT_ONCE):
        some = slice(start, start + _SCORED_AT_ONCE)
        least, reached = (
            np.einsum("qd,qkd->qk", rows[asked[some]], rows[near[some]], optimize=True) for near in (true, found)
        )
        right.append(reached >= least.min(axis=1, keepdims=True) - _TOLERANCE)
    return float(np.concatenate(right).mean())
