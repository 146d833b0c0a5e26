"""UMAP from neighbours that are known: no search for them, no spectral start, nothing kept of it but coordinates.

McInnes et al. 2018, https://arxiv.org/abs/1802.03426. The one file that imports umap-learn, which takes seconds, and
whose kernels are compiled in each process.
"""

import numpy as np
from numpy.typing import NDArray

from imgrec.search.indexes.vectors import Vectors
from imgrec.search.map.neighbours import Neighbours

Coordinates = NDArray[np.float32]

# Fewer points than that have no neighbourhoods: they lie where PCA puts them.
_FEWEST = 5
_SPREAD, _REPULSION, _NEGATIVE_SAMPLES, _LEARNING_RATE = 1.0, 1.0, 5, 1.0
# UMAP's own lengths are 500 up to 10,000 points, else 200; from coordinates that are good already, so much of it.
_AGAIN_SHARE = 0.4
_EPOCHS, _EPOCHS_OF_MANY, _MANY = 500, 200, 10_000
# So far apart, of the map's extent, are points that would start on one spot.
_JITTER = 1e-4
_PCA_ROUNDS = 12


def lay_out(neighbours: Neighbours, start: Coordinates, min_dist: float, seed: int, again: bool = False) -> Coordinates:
    """Return places (points, 2 or 3) at which points lie near their neighbours; the same for the same seed.

    `start` is where they begin: their PCA, or `again` an earlier map's places, which then move less.
    """
    if len(start) < _FEWEST:
        return start
    from umap.umap_ import find_ab_params, fuzzy_simplicial_set, simplicial_set_embedding

    random = np.random.RandomState(seed)
    places, distances = neighbours.places.astype(np.int32), neighbours.distances
    graph, _, _ = fuzzy_simplicial_set(
        start, places.shape[1], random, "cosine", knn_indices=places, knn_dists=distances
    )
    epochs = _EPOCHS if len(start) <= _MANY else _EPOCHS_OF_MANY
    a, b = find_ab_params(_SPREAD, min_dist)
    placed, _ = simplicial_set_embedding(
        start, graph, start.shape[1], _LEARNING_RATE * (_AGAIN_SHARE if again else 1.0), a, b, _REPULSION,
        _NEGATIVE_SAMPLES, int(epochs * _AGAIN_SHARE) if again else epochs, _apart(start, random), random, "cosine", {},
        False, {}, False,
    )  # fmt: skip
    return np.asarray(placed, np.float32)


def pca_start(sample: Vectors, dimensions: int) -> tuple[Vectors, Vectors]:
    """Return mean (dim,) and axes (dim, dimensions) of a PCA of some vectors, by subspace iteration."""
    mean = sample.mean(axis=0) if len(sample) else np.zeros(sample.shape[1], np.float32)
    centred = sample - mean
    axes = np.random.default_rng(0).standard_normal((sample.shape[1], min(dimensions, sample.shape[1])))
    for _ in range(_PCA_ROUNDS):
        axes, _ = np.linalg.qr(centred.T @ (centred @ axes.astype(np.float32)))
    return mean, np.asarray(axes, np.float32)


def aligned(places: Coordinates, old: Coordinates, known: NDArray[np.bool_]) -> Coordinates:
    """Turn, mirror and scale new places so that the points `known` lie as near to their `old` places as can be.

    Orthogonal Procrustes with a scale (Schönemann 1966, https://doi.org/10.1007/BF02289451). `old` has a row for each
    of the known points.
    """
    if known.sum() < 2:
        return places
    here, there = places[known].astype(np.float64), old.astype(np.float64)
    middle, target = here.mean(axis=0), there.mean(axis=0)
    left, strengths, right = np.linalg.svd((here - middle).T @ (there - target))
    size = ((here - middle) ** 2).sum()
    scale = strengths.sum() / size if size else 1.0
    return np.asarray(scale * (places - middle) @ (left @ right) + target, np.float32)


def _apart(start: Coordinates, random: np.random.RandomState) -> Coordinates:
    """Spread over UMAP's square, which it does by itself but where an axis has no extent, and none on one spot."""
    extent = np.ptp(start, axis=0)
    scaled = (start - start.min(axis=0)) / np.where(extent > 0, extent, 1)
    return np.asarray(10 * (scaled + random.normal(scale=_JITTER, size=start.shape)), np.float32)
