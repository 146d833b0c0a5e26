"""Part vectors in those to learn from and those to judge by, with near-copies on one side."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Vectors of which the cosine is larger are taken for copies of one picture.
NEAR_COPY = 0.98
_AT_ONCE = 2_048


class HeldOut(NamedTuple):
    """Places of the rows that judge; and of them with all that are `near` one, from which nothing may be learnt."""

    rows: NDArray[np.intp]
    near: NDArray[np.intp]


def hold_out(rows: NDArray[np.float32], share: float, at_most: int, seed: int) -> HeldOut:
    """Draw the rows (N, dim, unit) that judge; every row within `NEAR_COPY` of one of them is learnt from by nobody."""
    count = min(at_most, int(len(rows) * share))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    if not count:
        return HeldOut(drawn, drawn)
    judges = np.asarray(rows[drawn], np.float32)
    near = [
        start + np.flatnonzero((np.asarray(rows[start : start + _AT_ONCE]) @ judges.T).max(axis=1) > NEAR_COPY)
        for start in range(0, len(rows), _AT_ONCE)
    ]
    return HeldOut(drawn, np.union1d(drawn, np.concatenate(near)))
