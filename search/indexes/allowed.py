"""Searches among some images only: which rows of each segment are left, and how these are searched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from imgrec.search.indexes.hits import with_ids
from imgrec.search.indexes.kinds.kind import NO_ROW
from imgrec.search.indexes.segment import Segment
from imgrec.search.indexes.vectors import Ids, Mask, Offsets, Vectors

# Where a filter leaves less than this share of a segment's rows, they are compared one by one: a graph would search
# long among those that are left out, and find too few.
EXACT_BELOW = 0.1
# The rows that are compared at once take no more memory than this.
_EXACT_BYTES = 2**26


@dataclass(frozen=True)
class Part:
    """A segment of which `count` rows are searched; `dead` says of each id whether it is no hit."""

    segment: Segment
    dead: Mask
    bitmap: NDArray[np.uint8]
    count: int

    @property
    def rows(self) -> Offsets:
        return np.flatnonzero(np.unpackbits(self.bitmap, count=self.segment.opened.rows, bitorder="little"))

    def search(self, queries: Vectors, k: int, ef_search: int) -> tuple[Vectors, Ids]:
        """Search as readers do; where few rows are left, or too few are found, compare them all."""
        opened = self.segment.opened
        if self.count < EXACT_BELOW * opened.rows:
            found = self._compare(queries, k) if opened.has_rows else _nothing(len(queries), k)
            return with_ids(self.segment, self.dead, *found)
        # The fewer are left, the more of a graph's candidates are left out.
        candidates = round(max(ef_search, 2 * k) / (self.count / opened.rows) ** 0.5)
        asked = min(candidates // 2, self.count)
        selector = faiss.IDSelectorBitmap(opened.rows, faiss.swig_ptr(self.bitmap))
        scores, offsets = opened.search(queries, asked, opened.parameters(asked, candidates, selector))
        # Where those that are like a query are left out, a graph goes about among them and finds few that are not. Were
        # it near the right ones, it would find more than are asked for.
        lost = np.flatnonzero(offsets[:, -1] < 0)
        scores, offsets = _columns(scores, k, -np.inf), _columns(offsets, k, NO_ROW)
        if len(lost) and opened.has_rows:
            scores[lost], offsets[lost] = self._compare(queries[lost], k)
        return with_ids(self.segment, self.dead, scores, offsets)

    def _compare(self, queries: Vectors, k: int) -> tuple[Vectors, Offsets]:
        """Compare the queries with each row that is left, and return what a search would: scores and offsets."""
        rows = self.rows
        scores, offsets = _nothing(len(queries), k)
        step = max(1, _EXACT_BYTES // (4 * queries.shape[1]))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            vectors = self.segment.opened.vectors_of(some)
            new, found = faiss.knn(queries, vectors, min(k, len(some)), faiss.METRIC_INNER_PRODUCT)
            scores, offsets = np.concatenate([scores, new], axis=1), np.concatenate([offsets, some[found]], axis=1)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores, offsets = np.take_along_axis(scores, best, axis=1), np.take_along_axis(offsets, best, axis=1)
        return scores, offsets


@dataclass(frozen=True)
class Allowed:
    """What a filter leaves of a version: how many `images`, a bit for each id, and the rows of each segment.

    Of a combination also what it leaves of the indexes of its modalities.
    """

    images: int
    bits: NDArray[np.uint8]
    parts: tuple[Part, ...]
    members: Mapping[str, "Allowed"] = field(default_factory=dict)

    @classmethod
    def of(cls, ids: Sequence[Ids], parts: Sequence[Part]) -> "Allowed":
        """Allow these images, which the parts have."""
        table = np.zeros(max((int(some.max(initial=0)) + 1 for some in ids), default=1), bool)
        for some in ids:
            table[some] = True
        return cls(int(table.sum()), np.packbits(table, bitorder="little"), tuple(parts))

    def contains(self, ids: Ids) -> Mask:
        """Which of these images a search may answer with; ids are 0 or more."""
        inside = ids < 8 * len(self.bits)
        known = np.where(inside, ids, 0)
        found: Mask = inside & (self.bits[known >> 3] >> (known & 7) & 1).astype(bool)
        return found


def narrow(segment: Segment, dead: Mask | None, ids: Ids) -> Part:
    """Take all images but `ids` for dead."""
    out = ~np.isin(segment.ids, ids)
    if dead is not None:
        out |= dead
    left = ~segment.rows_all_in(out)
    return Part(segment, out, np.packbits(left, bitorder="little"), int(left.sum()))


def _nothing(queries: int, k: int) -> tuple[Vectors, Offsets]:
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), NO_ROW, np.int64)


def _columns(rows: NDArray[Any], k: int, filling: float) -> NDArray[Any]:
    """Cut or fill rows to k columns."""
    missing = max(0, k - rows.shape[1])
    return np.pad(rows[:, :k], ((0, 0), (0, missing)), constant_values=filling)
