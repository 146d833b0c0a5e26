"""Rows that are equal, bit by bit: many photos have copies, and an index needs each vector once."""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.unsignedinteger]

_ROWS_AT_ONCE = 4_096


def group_equal(rows: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that equal none before them, in order, and for every row the place therein of the one it equals.

    Rows of one 64-bit key, the sum of their words times fixed random numbers (https://arxiv.org/abs/1504.06804), are
    compared. Two of one key that differ are not grouped with anything but the first of that key.
    """
    words: Words = rows.view(np.uint32 if rows.shape[1] % 2 else np.uint64)
    _, first, group = np.unique(_keys(words), return_index=True, return_inverse=True)
    equals, itself = first[group], np.arange(len(rows))
    later = np.flatnonzero(equals != itself)
    for start in range(0, len(later), _ROWS_AT_ONCE):
        some = later[start : start + _ROWS_AT_ONCE]
        others = some[(words[some] != words[equals[some]]).any(axis=1)]
        equals[others] = others
    distinct = np.flatnonzero(equals == itself)
    return distinct, np.searchsorted(distinct, equals)


def keep_only(rows: NDArray[np.float32], distinct: NDArray[np.int64]) -> NDArray[np.float32]:
    """Move the rows `distinct` (ascending) to the front, in place, and return them."""
    if len(distinct) < len(rows):
        for start in range(0, len(distinct), _ROWS_AT_ONCE):
            some = distinct[start : start + _ROWS_AT_ONCE]
            rows[start : start + len(some)] = rows[some]
    return rows[: len(distinct)]


def _keys(words: Words) -> NDArray[np.uint64]:
    factors = np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64)
    keys = np.empty(len(words), np.uint64)
    for start in range(0, len(words), _ROWS_AT_ONCE):
        some = words[start : start + _ROWS_AT_ONCE]
        keys[start : start + len(some)] = some.astype(np.uint64, copy=False) @ factors
    return keys
