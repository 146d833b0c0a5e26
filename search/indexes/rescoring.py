"""Exact scores of hits, from the vectors in the registry."""

from collections.abc import Sequence

import numpy as np

from imgrec.search.indexes.inner_products import inner_products
from imgrec.search.indexes.layout import Member
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.storage.registry.registry import Registry

# An index ranks by rows of bytes, whose scores are off by a few thousandths: so many more hits than are asked for are
# scored exactly, and the best of them kept.
SPARE = 6


class ExactScores:
    """Scores images against rows of an index, each vector read once.

    A row of an index is what `fusion.combine` makes of a query's vectors: (dim of the index,).
    """

    def __init__(self, registry: Registry, members: Sequence[Member]) -> None:
        self.registry = registry
        self._members = members
        self._known: dict[tuple[str, str], dict[int, Vectors]] = {}

    def vectors(self, modality: str, fingerprint: str, ids: Sequence[int]) -> dict[int, Vectors]:
        """The stored vectors of images, those that have one."""
        known = self._known.setdefault((modality, fingerprint), {})
        if unknown := [image_id for image_id in ids if image_id not in known]:
            known |= self.registry.vectors(modality, fingerprint, unknown)
        return {image_id: known[image_id] for image_id in ids if image_id in known}

    def score(self, query: Vectors, ids: Ids) -> Vectors:
        """The exact scores of images, (N,) float32; a vector that an image has not adds nothing."""
        total = np.zeros(len(ids), np.float32)
        end = 0
        for member in self._members:
            part, end = query[end : end + member.dim], end + member.dim
            if len(self._members) > 1:
                part = part * np.float32(np.sqrt(member.weight))
            if part.any():
                total += self._products(member, part, ids.tolist())
        return total

    def _products(self, member: Member, part: Vectors, ids: Sequence[int]) -> Vectors:
        known = self.vectors(member.modality, member.fingerprint, ids)
        rows = np.zeros((len(ids), member.dim), np.float32)
        for place, image_id in enumerate(ids):
            if image_id in known:
                rows[place] = known[image_id]
        return inner_products(rows, np.ascontiguousarray(part))


def rescore(scores: ExactScores, queries: Vectors, ids: Ids, k: int) -> tuple[Vectors, Ids]:
    """Rank hits by their exact scores: ids (queries, any number) → scores and ids (queries, k), as readers do."""
    exact = np.full(ids.shape, -np.inf, np.float32)
    for query, some in enumerate(ids):
        there = some >= 0
        exact[query, there] = scores.score(queries[query], some[there])
    best = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(exact, best, axis=1), np.take_along_axis(ids, best, axis=1)
