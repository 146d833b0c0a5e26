"""Which photos may be near copies: each is looked up in the index, and the pairs are then scored exactly."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgrec.search.duplicates.vectors import IndexedVectors
from imgrec.search.indexes.segment import Ids, Vectors

Places = NDArray[np.int64]
Scores = NDArray[np.float32]
# Told how many photos have been looked up, and of how many.
OnProgress = Callable[[int, int], None]

# Neighbours a photo. Who has more near copies than these is looked up again, for more.
NEIGHBOURS = 8
_WIDER = (64, 512, 4_096)
# What the scores of an index, which may keep its rows shortened, are trusted to.
MARGIN = 0.02
_SEARCHED_AT_ONCE = 2**20


@dataclass(frozen=True)
class Contents:
    """The contents to compare, one photo of each: `ids`, ascending. `all_ids` are the photos that are there, ascending,
    and `place_of` has the place in `ids` of the content of each, -1 where it has no vector.
    """

    ids: Ids
    all_ids: Ids
    place_of: Places

    def places(self, ids: Ids) -> Places:
        """The places of the contents of photos of any ids; -1 for those that are unknown."""
        if not len(self.all_ids):
            return np.full(ids.shape, -1, np.int64)
        at = np.minimum(np.searchsorted(self.all_ids, ids), len(self.all_ids) - 1)
        return np.where(self.all_ids[at] == ids, self.place_of[at], -1)


@dataclass(frozen=True)
class Candidates:
    """Pairs of contents that are near enough, (P, 2) places, each once, and the exact score of each.

    `same[i]` is the first content whose vector equals that of content i, bit by bit; only such first ones are in pairs.
    `cut` are those of them that may have more neighbours than their pairs say.
    """

    same: Places
    pairs: Places
    scores: Scores
    cut: NDArray[np.bool_]


def find_candidates(
    vectors: IndexedVectors, contents: Contents, threshold: float, on_progress: OnProgress
) -> Candidates:
    """Find the pairs of contents whose cosine is at least `threshold`."""
    search = _Search(vectors, contents, vectors.norms(contents.ids), threshold - MARGIN)
    keys = np.zeros(len(contents.ids), np.uint64)
    crowded = np.zeros(len(contents.ids), bool)
    done, found = 0, []
    for ids, rows in vectors.batches(contents.ids):
        places = np.searchsorted(contents.ids, ids)
        keys[places] = _keys(rows)
        pairs, crowded[places] = search.neighbours(places, rows, NEIGHBOURS)
        found.append(pairs)
        done += len(ids)
        on_progress(done, len(contents.ids))
    same = _first_of_equal(keys)
    waiting = np.flatnonzero(crowded & (same == np.arange(len(same))))
    for k in _WIDER:
        waiting, more = search.look_further(waiting, same, k)
        found += more
    pairs = _each_once(np.concatenate([np.empty((0, 2), np.int64), *found]), same)
    scores = score_pairs(vectors, contents.ids, pairs)
    near = scores >= threshold
    cut = np.zeros(len(same), bool)
    cut[np.concatenate([waiting, search.still_cut(same)])] = True
    return Candidates(same, pairs[near], scores[near], cut)


def score_pairs(vectors: IndexedVectors, ids: Ids, pairs: Places) -> Scores:
    """Return the exact cosine of each pair of places in `ids`, from stored vectors."""
    scores = np.zeros(len(pairs), np.float32)
    step = max(1, vectors.batch_size // 2)
    for start in range(0, len(pairs), step):
        some = pairs[start : start + step]
        used, at = np.unique(some, return_inverse=True)
        rows, at = vectors.rows(ids[used]), at.reshape(-1, 2)
        scores[start : start + step] = np.einsum("nd,nd->n", rows[at[:, 0]], rows[at[:, 1]])
    return scores.clip(-1, 1)


class _Search:
    """Looks contents up in the index; a neighbour counts from the score `least` on."""

    def __init__(self, vectors: IndexedVectors, contents: Contents, norms: Scores, least: float) -> None:
        self._vectors, self._contents, self._norms, self._least = vectors, contents, norms, least
        self._cut: list[Places] = []

    def neighbours(self, places: Places, rows: Vectors, k: int) -> tuple[Places, NDArray[np.bool_]]:
        """Return pairs of places, (P, 2), and of which rows all k neighbours are near, so that there may be more."""
        scores, ids = self._vectors.search(rows, k)
        others = self._contents.places(ids)
        near = (others >= 0) & (scores >= self._least * self._norms[others])
        row, column = np.nonzero(near & (others != places[:, np.newaxis]))
        return np.stack([places[row], others[row, column]], axis=1), (ids[:, -1] >= 0) & near[:, -1]

    def look_further(self, waiting: Places, same: Places, k: int) -> tuple[Places, list[Places]]:
        """Look contents up again for k neighbours; return those that are still crowded by equals, and all pairs.

        Who has found NEIGHBOURS others by then is linked well enough, and is not looked up again.
        """
        crowded, found = [np.empty(0, np.int64)], []
        step = max(1, min(self._vectors.batch_size, _SEARCHED_AT_ONCE // k))
        for start in range(0, len(waiting), step):
            places = waiting[start : start + step]
            pairs, full = self.neighbours(places, self._vectors.rows(self._contents.ids[places]), k)
            found.append(pairs)
            others = np.unique(np.stack([pairs[:, 0], same[pairs[:, 1]]], axis=1), axis=0)
            others = others[others[:, 0] != others[:, 1]]
            linked = np.bincount(np.searchsorted(places, others[:, 0]), minlength=len(places)) >= NEIGHBOURS
            self._cut.append(places[full & linked])
            crowded.append(places[full & ~linked])
        return np.concatenate(crowded), found

    def still_cut(self, same: Places) -> Places:
        """The contents that have more neighbours than were looked at."""
        return same[np.concatenate([np.empty(0, np.int64), *self._cut])]


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
