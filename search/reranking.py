"""k-reciprocal re-ranking of long lists: photos that name each other as neighbours come forward.

Z. Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017
(https://arxiv.org/abs/1701.08398), within one list: neighbours are looked for among the photos of the list only.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imgrec.search.indexes.layout import Member
from imgrec.search.indexes.source import from_blobs
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.storage.registry.registry import Registry

K1, K2, OWN_SHARE = 20, 3, 0.6
# How long the list is that is ranked anew.
LENGTH = 200

Similarities = NDArray[np.float32]


def rank_anew(registry: Registry, members: Sequence[Member], query: Vectors, ids: Ids) -> Ids:
    """Return the order of a list, best first: places in `ids`, (N,), of images, -1 for none, in which they were found.

    `query` is the (dim,) row that the index of these `members` was searched for. What has no stored vector comes last.
    """
    nothing = np.empty(0, np.int64), np.empty((0, len(query)), np.float32)
    found, rows = next(from_blobs(registry, members, ids[ids >= 0], len(ids)), nothing)
    place = {image_id: number for number, image_id in enumerate(ids.tolist())}
    known = np.array([place[image_id] for image_id in found.tolist()], np.int64)
    query = query / (query @ query)  # a search weighs out what the query lacks; photos' rows do not
    together = np.concatenate([query[np.newaxis], rows])
    ranked = known[expanded_order(together @ together.T)]
    return np.concatenate([ranked, np.setdiff1d(np.arange(len(ids)), ranked)])


def expanded_order(similarities: Similarities, k1: int = K1, k2: int = K2, own_share: float = OWN_SHARE) -> Ids:
    """Return the order of a query's list, best first: places 0 … N - 1.

    `similarities` is (1 + N, 1 + N), cosines of the query (row 0) and the N photos of its list, in any order.
    """
    count = len(similarities)
    distances = np.clip(2 - 2 * similarities, 0, None)
    ranked = np.argsort(distances, axis=1, kind="stable")
    near = _reciprocal(ranked, min(k1, count - 1))
    closer = _reciprocal(ranked, min(max(1, round(k1 / 2)), count - 1))
    members = _joined(near, closer)
    weights = np.where(members, np.exp(-distances), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    weights = weights[ranked[:, : min(k2, count)]].mean(axis=1)
    shared = np.minimum(weights[0], weights).sum(axis=1)
    jaccard = 1 - shared / (2 - shared)
    own = distances[0] / max(float(distances[0].max()), 1e-9)
    mixed = (1 - own_share) * jaccard + own_share * own
    return np.argsort(mixed[1:], kind="stable").astype(np.int64)


def _reciprocal(ranked: Ids, k: int) -> NDArray[np.bool_]:
    """Who is among the k nearest of whom and has them among its own: (N, N), everybody with itself."""
    among = np.zeros(ranked.shape, bool)
    np.put_along_axis(among, ranked[:, : k + 1], True, axis=1)
    return among & among.T


def _joined(near: NDArray[np.bool_], closer: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add to each set those of its members' closer sets that share two thirds of their members with it."""
    common = near.astype(np.float32) @ closer.T.astype(np.float32)
    alike = near & (common >= 2 / 3 * closer.sum(axis=1))
    return np.asarray(near | (alike.astype(np.float32) @ closer.astype(np.float32) > 0))
