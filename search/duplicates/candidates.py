"""Which photos may be near copies: each is looked up in the index, and the pairs are then scored exactly."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgrec.search.duplicates.contents import Contents, Places
from imgrec.search.duplicates.likeness import Scores
from imgrec.search.indexes.vectors import Vectors

# Told how many photos have been looked up, and of how many.
OnProgress = Callable[[int, int], None]

# Neighbours a photo. Who has more near copies than these is looked up again, for more.
NEIGHBOURS = 8
_WIDER = (64, 512, 4_096)
# What the scores of an index, which may keep its rows shortened, are trusted to.
MARGIN = 0.02
_SEARCHED_AT_ONCE = 2**20


@dataclass(frozen=True)
class Candidates:
    """Pairs of contents that are near enough, (P, 2) places, each once, and the exact score of each.

    `same[i]` is the first content whose vector equals that of content i, bit by bit; only such first ones are in pairs.
    `cut` says which of them may have more neighbours than their pairs say.
    """

    same: Places
    pairs: Places
    scores: Scores
    cut: NDArray[np.bool_]


def find_candidates(contents: Contents, on_progress: OnProgress) -> Candidates:
    """Find the pairs of contents that are near."""
    keys = np.zeros(len(contents.ids), np.uint64)
    crowded = np.zeros(len(contents.ids), bool)
    done, found = 0, [np.empty((0, 2), np.int64)]
    for ids, rows in contents.vectors.batches(contents.ids):
        places = np.searchsorted(contents.ids, ids)
        keys[places] = _keys(rows)
        pairs, crowded[places] = _neighbours(contents, places, rows, NEIGHBOURS)
        found.append(pairs)
        done += len(ids)
        on_progress(done, len(contents.ids))
    same, itself = _first_of_equal(keys), np.arange(len(keys))
    waiting = np.flatnonzero(crowded & (same == itself))
    cut = np.zeros(len(same), bool)
    for k in _WIDER:
        waiting, linked, more = _look_further(contents, waiting, same, k)
        cut[linked] = True
        found += more
    cut[waiting] = True
    pairs = _each_once(np.concatenate(found), same)
    scores, near = contents.judge(pairs)
    return Candidates(same, pairs[near], scores[near], cut)


def _neighbours(contents: Contents, places: Places, rows: Vectors, k: int) -> tuple[Places, NDArray[np.bool_]]:
    """Return pairs of places, (P, 2), and of which rows all k neighbours are near, so that there may be more."""
    products, ids = contents.vectors.search(rows, k)
    others = contents.places(ids)
    _, near = contents.likeness.judge(products, contents.masks[places][:, np.newaxis], contents.masks[others], MARGIN)
    near &= others >= 0
    row, column = np.nonzero(near & (others != places[:, np.newaxis]))
    return np.stack([places[row], others[row, column]], axis=1), near[:, -1]


def _look_further(contents: Contents, waiting: Places, same: Places, k: int) -> tuple[Places, Places, list[Places]]:
    """Look contents up again for k neighbours.

    Returns those that equals still keep from others, those that have found NEIGHBOURS others, which links them well
    enough, though there may be more, and pairs.
    """
    crowded, linked, found = [np.empty(0, np.int64)], [np.empty(0, np.int64)], []
    step = max(1, min(contents.vectors.batch_size, _SEARCHED_AT_ONCE // k))
    for start in range(0, len(waiting), step):
        places = waiting[start : start + step]
        pairs, full = _neighbours(contents, places, contents.vectors.rows(contents.ids[places]), k)
        found.append(pairs)
        others = np.unique(np.stack([pairs[:, 0], same[pairs[:, 1]]], axis=1), axis=0)
        others = others[others[:, 0] != others[:, 1]]
        enough = np.bincount(np.searchsorted(places, others[:, 0]), minlength=len(places)) >= NEIGHBOURS
        linked.append(places[full & enough])
        crowded.append(places[full & ~enough])
    return np.concatenate(crowded), np.concatenate(linked), found


def _keys(rows: Vectors) -> NDArray[np.uint64]:
    """A 64-bit key of each row: that of equal rows is equal (https://arxiv.org/abs/1504.06804)."""
    words = np.ascontiguousarray(rows).view(np.uint32)
    factors = np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64)
    return np.concatenate([part.astype(np.uint64) @ factors for part in np.array_split(words, -(-len(words) // 512))])


def _first_of_equal(keys: NDArray[np.uint64]) -> Places:
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    return np.asarray(first[group], np.int64)


def _each_once(pairs: Places, same: Places) -> Places:
    pairs = np.sort(same[pairs], axis=1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
