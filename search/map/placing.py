"""Photos that come later get a place on a map that is there, by their neighbours on it; nothing else moves."""

import numpy as np
from numpy.typing import NDArray

from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.search.map.neighbours import NOBODY, Batches, Find, Places, scaled

_ASKED_AT_MOST = 1_024
_BISECTIONS = 40
# Of the mean distance, as in UMAP: of two neighbours that are as near, none counts alone.
_LEAST_WIDTH = 1e-3


def near_on_map(find: Find, batches: Batches, ids: Ids, known: Ids, k: int) -> tuple[Places, Vectors]:
    """For each photo of `ids` (ascending) find k neighbours among the photos `known` (ascending): rows, distances.

    Rows of both are (len(ids), k); they end in NOBODY where the index knows no more of the map.
    """
    k = min(k, len(known))
    places, distances = np.full((len(ids), k), NOBODY), np.ones((len(ids), k), np.float32)
    for some, vectors in batches:
        rows = np.searchsorted(ids, some)
        asked = 2 * k
        while True:
            found = _on_map(find, vectors, asked, known, k)
            if asked >= _ASKED_AT_MOST or (found[0] != NOBODY).all():
                break
            asked = min(4 * asked, _ASKED_AT_MOST)
        places[rows], distances[rows] = found
    return places, distances


def weights_of(distances: Vectors, known: NDArray[np.bool_]) -> Vectors:
    """How much each neighbour counts, (N, k), rows summing to 1 (to 0 where there is none).

    UMAP's own memberships: exp(-(distance - nearest) / width), the width such that they sum to log2(k).
    """
    if not distances.shape[1]:
        return distances
    above = np.where(known, distances - distances[:, :1], 0)
    count = np.maximum(known.sum(axis=1), 1)
    target = np.log2(np.maximum(count, 2))[:, np.newaxis]
    least = _LEAST_WIDTH * np.where(known, distances, 0).sum(axis=1, keepdims=True) / count[:, np.newaxis] + 1e-9
    low, high = least, np.full((len(above), 1), 10.0)
    for _ in range(_BISECTIONS):
        width = (low + high) / 2
        sums = (np.exp(-above / width) * known).sum(axis=1, keepdims=True)
        low, high = np.where(sums < target, width, low), np.where(sums < target, high, width)
    weights = np.exp(-above / high) * known
    return np.asarray(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12), np.float32)


def placed_at(places: Places, weights: Vectors, coordinates: Vectors) -> Vectors:
    """The weighted mean of the neighbours' coordinates; the middle of the map for photos that have none."""
    found = np.einsum("nk,nkd->nd", weights, coordinates[np.maximum(places, 0)])
    alone = ~(places != NOBODY).any(axis=1)
    found[alone] = coordinates.mean(axis=0)
    return np.asarray(found, np.float32)


def voted(places: Places, weights: Vectors, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """The label that most of the neighbours' weight has; -1 for photos that have no neighbour."""
    votes = np.where(places == NOBODY, np.int32(-1), labels[np.maximum(places, 0)])
    shares = (weights[:, :, np.newaxis] * (votes[:, :, np.newaxis] == votes[:, np.newaxis, :])).sum(axis=1)
    best = np.take_along_axis(votes, shares.argmax(axis=1)[:, np.newaxis], axis=1)[:, 0]
    return np.asarray(best, np.int32)


def _on_map(find: Find, vectors: Vectors, asked: int, known: Ids, k: int) -> tuple[Places, Vectors]:
    scores, found = find(scaled(vectors), asked)
    rows = np.searchsorted(known, found)
    rows[rows == len(known)] = 0
    here = known[rows] == found
    order = np.argsort(~here, axis=1, kind="stable")[:, :k]
    places = np.take_along_axis(np.where(here, rows, NOBODY), order, axis=1)
    return places, np.maximum(0, 1 - np.take_along_axis(scores, order, axis=1)).astype(np.float32)
