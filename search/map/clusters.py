"""Groups of photos that lie densely together on a map: HDBSCAN, a picture that stands for each, what lies in none.

McInnes, Healy, Astels 2017, https://doi.org/10.21105/joss.00205.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.search.map.neighbours import Batches, Places

Labels = NDArray[np.int32]

ALONE = -1
# Dense is where so many lie near; more only makes clusters smaller.
_MIN_SAMPLES = 10
# So many of a cluster's photos, those in its middle, are looked at to find the one that is most like all of them.
_CANDIDATES = 100


@dataclass(frozen=True)
class Cluster:
    """A group: its number, how many photos it has, the one that stands for it, its middle on the map, its words."""

    number: int
    size: int
    medoid: int
    x: float
    y: float
    words: tuple[str, ...] = ()


def default_min_size(points: int) -> int:
    """Photos that make a cluster, of a map of so many points: half their root, at least 5."""
    return max(5, round(math.sqrt(points) / 2))


def find_clusters(places: Vectors, min_size: int) -> Labels:
    """Return the cluster of each point, by its place (points, 2): 0, 1, … from the largest on, ALONE for the others."""
    if len(places) < 2 * min_size:
        return np.full(len(places), ALONE, np.int32)
    from hdbscan import HDBSCAN

    found = HDBSCAN(min_cluster_size=min_size, min_samples=min(_MIN_SAMPLES, min_size), core_dist_n_jobs=1)
    labels = found.fit_predict(places.astype(np.float64)).astype(np.int32)
    sizes = np.bincount(labels[labels != ALONE])
    renamed = np.empty(len(sizes) + 1, np.int32)
    renamed[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes), dtype=np.int32)
    renamed[-1] = ALONE  # where index -1 leads
    return np.asarray(renamed[labels])


def keep_numbers(labels: Labels, before: Labels) -> Labels:
    """Give clusters the numbers of those before that they share most photos with, so that a refit renames few.

    `labels` and `before` are of the same photos; clusters without a match get numbers that nobody had.
    """
    both = (labels != ALONE) & (before != ALONE)
    pairs, shared = np.unique(np.column_stack([labels[both], before[both]]), axis=0, return_counts=True)
    renamed: dict[int, int] = {}
    for new, old in pairs[np.argsort(-shared, kind="stable")].tolist():
        if new not in renamed and old not in renamed.values():
            renamed[new] = old
    free = max([*renamed.values(), int(before.max(initial=-1))], default=-1) + 1
    for number in np.unique(labels[labels != ALONE]).tolist():
        if number not in renamed:
            renamed[number], free = free, free + 1
    return np.asarray([renamed.get(label, ALONE) for label in labels.tolist()], np.int32)


def describe_clusters(ids: Ids, places: Vectors, labels: Labels, vectors_of: Callable[[Ids], Batches]) -> list[Cluster]:
    """Describe each cluster of the photos `ids` at `places` (photos, 2), the largest first.

    Its medoid is, of up to 100 photos in its middle, the one whose vector is most like their mean.
    """
    members = [np.flatnonzero(labels == number) for number in np.unique(labels[labels != ALONE])]
    middles = [np.median(places[rows], axis=0) for rows in members]
    nearest = [_nearest(places, *pair) for pair in zip(members, middles, strict=True)]
    medoids = _medoids(ids, nearest, vectors_of)
    clusters = [
        Cluster(int(labels[rows[0]]), len(rows), medoid, float(middle[0]), float(middle[1]))
        for rows, middle, medoid in zip(members, middles, medoids, strict=True)
    ]
    return sorted(clusters, key=lambda cluster: -cluster.size)


def _nearest(places: Vectors, rows: Places, middle: Vectors) -> Places:
    order = np.argsort(((places[rows] - middle) ** 2).sum(axis=1), kind="stable")
    return rows[order[:_CANDIDATES]]


def _medoids(ids: Ids, groups: Sequence[Places], vectors_of: Callable[[Ids], Batches]) -> list[int]:
    found = []
    for rows in groups:
        parts = list(vectors_of(np.sort(ids[rows])))
        if not parts:  # gone since
            found.append(int(ids[rows[0]]))
            continue
        some, vectors = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        found.append(int(some[(vectors @ vectors.mean(axis=0)).argmax()]))
    return found
