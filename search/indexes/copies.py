"""Rows that are equal, bit by bit: many photos have copies, and an index needs each vector once.

Equal vectors share a row of a segment: in a graph, a few dozen of them have only each other for neighbours, and hide
the rest.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from imgrec.search.indexes.vectors import Mask, Offsets, Vectors

Keys = NDArray[np.uint64]

_ROWS_AT_ONCE = 4_096


class Distinct:
    """Numbers vectors as they come: equal ones get the number of the first.

    They are compared by 64 bits that are as good as drawn for each (`keys_of`): of ten million vectors, the chance that
    any two that differ are taken for equal is 1 to 400,000, and then one of two photos is found by the other's vector.
    Keys are kept in sorted runs that are merged as they double, so that a batch costs no more late than early.
    """

    def __init__(self, known: Keys) -> None:
        """Go on numbering where there are rows already, of these keys."""
        self._runs: list[tuple[Keys, Offsets]] = []
        self._new: list[Keys] = []
        self.count = len(known)
        order = np.argsort(known, kind="stable")
        self._keep(known[order], order)

    @property
    def new_keys(self) -> Keys:
        """The keys of all rows that were numbered since, in the order of the rows."""
        return np.concatenate([np.empty(0, np.uint64), *self._new])

    def number(self, vectors: Vectors) -> tuple[Mask, Offsets]:
        """Say of each vector (N, dim) whether it is the first of its kind, and which row it has."""
        keys = keys_of(vectors)
        rows = self._find(keys)
        unknown = np.flatnonzero(rows < 0)
        new, first, kind = np.unique(keys[unknown], return_index=True, return_inverse=True)
        order = np.argsort(first, kind="stable")  # numbers go up in the order in which vectors come
        numbers = np.empty(len(new), np.int64)
        numbers[order] = self.count + np.arange(len(new))
        rows[unknown] = numbers[kind]
        is_first = np.zeros(len(vectors), bool)
        is_first[unknown[first]] = True
        self._new.append(keys[is_first])
        self.count += len(new)
        self._keep(new, numbers)
        return is_first, rows

    def _find(self, keys: Keys) -> Offsets:
        rows = np.full(len(keys), -1, np.int64)
        for known, numbers in self._runs:
            places = np.searchsorted(known, keys)
            places[places == len(known)] = 0
            found = known[places] == keys
            rows[found] = numbers[places[found]]
        return rows

    def _keep(self, keys: Keys, numbers: Offsets) -> None:
        if len(keys) == 0:
            return
        self._runs.append((keys, numbers))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            (keys_a, numbers_a), (keys_b, numbers_b) = self._runs.pop(), self._runs.pop()
            keys, numbers = np.concatenate([keys_a, keys_b]), np.concatenate([numbers_a, numbers_b])
            order = np.argsort(keys, kind="stable")
            self._runs.append((keys[order], numbers[order]))


def keys_of(vectors: Vectors) -> Keys:
    """Hash rows to 64 bits: twice the upper half of a sum of 32-bit words times random numbers.

    Each half is strongly universal (Lemire, Kaser: https://arxiv.org/abs/1202.4961).
    """
    words = np.ascontiguousarray(vectors).view(np.uint32)
    factors = _factors(words.shape[1])
    keys = np.empty(len(words), np.uint64)
    for start in range(0, len(words), _ROWS_AT_ONCE):
        sums = words[start : start + _ROWS_AT_ONCE].astype(np.uint64) @ factors
        upper, lower = sums[:, 0] & np.uint64(0xFFFFFFFF00000000), sums[:, 1] >> np.uint64(32)
        keys[start : start + _ROWS_AT_ONCE] = upper | lower
    return keys


@lru_cache(maxsize=8)
def _factors(words: int) -> Keys:
    return np.random.default_rng(0).integers(0, 2**64, (words, 2), np.uint64)
