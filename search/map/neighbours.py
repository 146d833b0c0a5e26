"""The nearest neighbours of each photo of a map, among its photos: what all else on the map is made of.

They come from the library's own index where the map shows all of it, or else from a small index of the photos that it
shows. Photos whose vectors are equal are one *point*: else copies of one picture would have no other neighbours.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from imgrec.search.indexes.copies import keys_of
from imgrec.search.indexes.opening import Reader
from imgrec.search.indexes.vectors import Ids, Vectors

Places = NDArray[np.int64]
# From vectors (N, dim) and k to scores and image ids (N, k), as a reader's search gives them.
Find = Callable[[Vectors, int], tuple[Vectors, Ids]]
Batches = Iterable[tuple[Ids, Vectors]]

NOBODY = -1
# Up to so many photos are compared each with each, which takes seconds and is exact.
_EXACT_ROWS = 20_000
_EF_SEARCH = 64
# Asked for at first, and at most where copies take up the places of others.
_ASKED, _ASKED_AT_MOST = 2, 1_024


@dataclass(frozen=True)
class Neighbours:
    """`places[p]` are the nearest points of point p, itself first, and `distances[p]` are 1 - cosine to each.

    Both are (points, k); rows of points that have fewer neighbours end in NOBODY, at the distance of the last one.
    `point_of[i]` is the point that photo i of the map belongs to, `first[p]` the first photo of point p.
    """

    places: Places
    distances: Vectors
    point_of: Places
    first: Places

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which entries are neighbours."""
        return np.asarray(self.places != NOBODY)


def finder_of(reader: Reader) -> Find:
    """Find neighbours in a library's index."""
    ef_search = max(_EF_SEARCH, reader.manifest.ef_search)
    return lambda vectors, k: reader.search(vectors, k, ef_search)


def finder_among(batches: Batches, dim: int) -> Find:
    """Find neighbours among these photos alone: exactly where they are few, else by a graph in memory."""
    all_ids, rows = [], []
    for ids, vectors in batches:
        all_ids.append(ids)
        rows.append(vectors)
    known = np.concatenate([*all_ids, [NOBODY]])  # FAISS ends short rows with offset -1
    graph = len(known) - 1 > _EXACT_ROWS
    index = faiss.index_factory(dim, "HNSW32,Flat" if graph else "Flat", faiss.METRIC_INNER_PRODUCT)
    while rows:
        index.add(rows.pop(0))
    parameters = faiss.SearchParametersHNSW(efSearch=_EF_SEARCH) if graph else None

    def find(vectors: Vectors, k: int) -> tuple[Vectors, Ids]:
        if parameters is not None:
            parameters.efSearch = max(_EF_SEARCH, k)
        scores, offsets = index.search(vectors, k, params=parameters)
        return scores, known[offsets]

    return find


def scaled(vectors: Vectors) -> Vectors:
    """Scale rows so that each scores 1 against itself: those of a combination may lack a modality's part."""
    squares = np.einsum("nd,nd->n", vectors, vectors)
    return np.asarray(vectors / np.maximum(squares, 1e-12)[:, np.newaxis], np.float32)


def find_neighbours(
    find: Find,
    batches: Batches,
    ids: Ids,
    k: int,
    vectors_of: Callable[[Ids], Batches],
    on_photos: Callable[[int], None],
) -> Neighbours:
    """Find the k nearest points of each point of the photos `ids` (ascending), itself among them.

    `batches` yields all of them in any order, `vectors_of` some of them again; `on_photos(count)` hears of progress.
    """
    asked = min(_ASKED * k, len(ids))
    keys = np.zeros(len(ids), np.uint64)
    near = np.full((len(ids), asked), NOBODY, np.int64)
    far = np.ones((len(ids), asked), np.float32)
    for some, vectors in batches:
        rows = np.searchsorted(ids, some)
        keys[rows] = keys_of(vectors)
        near[rows], far[rows] = _search(find, vectors, asked, ids)
        on_photos(len(some))
    _, first, point_of = np.unique(keys, return_index=True, return_inverse=True)
    k = min(k, len(first))
    places, distances, lacking = _nearest_points(near[first], far[first], point_of, np.arange(len(first)), k)
    while lacking.any() and asked < min(_ASKED_AT_MOST, len(ids)):
        asked = min(4 * asked, _ASKED_AT_MOST, len(ids))
        short = np.flatnonzero(lacking)
        owners = ids[first[short]]
        for some, vectors in vectors_of(np.sort(owners)):
            points = point_of[np.searchsorted(ids, some)]
            found = _nearest_points(*_search(find, vectors, asked, ids), point_of, points, k)
            places[points], distances[points], lacking[points] = found
    return Neighbours(places, distances, point_of, first)


def _search(find: Find, vectors: Vectors, k: int, ids: Ids) -> tuple[Places, Vectors]:
    """Return the photos found as rows of `ids`, NOBODY where one is not of the map, and their distances."""
    scores, found = find(scaled(vectors), k)
    rows = np.searchsorted(ids, found)
    rows[rows == len(ids)] = 0
    return np.where(ids[rows] == found, rows, NOBODY), np.maximum(0, 1 - scores).astype(np.float32)


def _nearest_points(
    near: Places, far: Vectors, point_of: Places, points: Places, k: int
) -> tuple[Places, Vectors, NDArray[np.bool_]]:
    """Make of photos found for some points the points' k nearest points, and say which points lack some."""
    others = np.where(near == NOBODY, NOBODY, point_of[near])
    usable = (others != NOBODY) & (others != points[:, np.newaxis]) & ~_repeated(others)
    order = np.argsort(~usable, axis=1, kind="stable")[:, : k - 1]
    places = np.take_along_axis(np.where(usable, others, NOBODY), order, axis=1)
    distances = np.take_along_axis(far, order, axis=1)
    distances = np.where(places == NOBODY, 0, distances)
    distances = np.maximum.accumulate(distances, axis=1)  # NOBODY is as far as the last one, and no row decreases
    places = np.column_stack([points, places])
    distances = np.column_stack([np.zeros(len(points), np.float32), distances]).astype(np.float32)
    return places, distances, (places == NOBODY).any(axis=1) | (places.shape[1] < k)


def _repeated(rows: Places) -> NDArray[np.bool_]:
    """Which values of a row stand further left in it, too."""
    order = np.argsort(rows, axis=1, kind="stable")
    in_order = np.take_along_axis(rows, order, axis=1)
    again = np.zeros(rows.shape, bool)
    again[:, 1:] = in_order[:, 1:] == in_order[:, :-1]
    repeated = np.empty_like(again)
    np.put_along_axis(repeated, order, again, axis=1)
    return repeated
