"""Which photos a map shows, where not all."""

import numpy as np
from numpy.typing import NDArray

from imgrec.search.indexes.vectors import Ids

_GOLDEN = 0x9E3779B97F4A7C15


def draw(ids: Ids, count: int | None, seed: int) -> Ids:
    """Draw `count` of the photos `ids` (ascending); all, where there are no more.

    A photo's lot depends on its id and the seed alone (splitmix64, https://doi.org/10.1145/2660193.2660195). So photos
    that come later take the places of few, and a smaller draw is a part of a larger one.
    """
    if count is None or len(ids) <= count:
        return ids
    lots = _mix(ids.astype(np.uint64) + np.uint64(seed * _GOLDEN % 2**64))
    return np.sort(ids[np.argpartition(lots, count)[:count]])


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
