"""The contents that are compared: one photo of each, its vector, and how alike two of them are."""

import numpy as np
from numpy.typing import NDArray

from imgrec.search.duplicates.likeness import Likeness, Scores
from imgrec.search.duplicates.vectors import IndexedVectors
from imgrec.search.indexes.vectors import Ids, Vectors

Places = NDArray[np.int64]


class Contents:
    """Contents by place: `ids` (ascending) has one photo of each. All of them have vectors.

    Args:
        all_ids: the photos that are there, ascending.
        place_of: the place of the content of each of `all_ids`, -1 where it has no vector.
    """

    def __init__(self, vectors: IndexedVectors, likeness: Likeness, ids: Ids, all_ids: Ids, place_of: Places) -> None:
        self.vectors, self.likeness, self.ids = vectors, likeness, ids
        self.masks = vectors.masks(ids)
        self._all_ids, self._place_of = all_ids, place_of

    def places(self, ids: Ids) -> Places:
        """The places of the contents of photos of any ids; -1 for those that are unknown or have no vector."""
        if not len(self._all_ids):
            return np.full(ids.shape, -1, np.int64)
        at = np.minimum(np.searchsorted(self._all_ids, ids), len(self._all_ids) - 1)
        return np.where(self._all_ids[at] == ids, self._place_of[at], -1)

    def rows(self, places: Places) -> Vectors:
        """Their rows, exact as they are stored."""
        return self.vectors.rows(self.ids[places])

    def judge(self, pairs: Places) -> tuple[Scores, NDArray[np.bool_]]:
        """Return the exact score of each pair of places, (P, 2), and whether it is near."""
        products = np.zeros(len(pairs), np.float32)
        step = max(1, self.vectors.batch_size // 2)
        for start in range(0, len(pairs), step):
            some = pairs[start : start + step]
            used, at = np.unique(some, return_inverse=True)
            rows, at = self.rows(used), at.reshape(-1, 2)
            products[start : start + step] = np.einsum("nd,nd->n", rows[at[:, 0]], rows[at[:, 1]])
        scores, near = self.likeness.judge(products, self.masks[pairs[:, 0]], self.masks[pairs[:, 1]])
        return scores.clip(-1, 1), near
