"""Make a map of a library, or bring one in step with it."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.search.map.clusters import (
    ALONE,
    Cluster,
    Labels,
    default_min_size,
    describe_clusters,
    find_clusters,
    keep_numbers,
)
from imgrec.search.map.drawing import draw
from imgrec.search.map.embedding import Coordinates, aligned, lay_out, pca_start
from imgrec.search.map.graph import Links, find_communities, link, spread_to_copies
from imgrec.search.map.neighbours import Neighbours, find_neighbours
from imgrec.search.map.photos import Photos
from imgrec.search.map.placing import near_on_map, placed_at, voted, weights_of

# Beyond this share of photos that came later, the whole map is laid out anew.
REFIT_FROM_SHARE = 0.2
FITTED, PLACED, LATER = np.uint8(0), np.uint8(1), np.uint8(2)
_PCA_ROWS = 5_000
_VOTERS_AT_ONCE = 65_536

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MapParameters:
    """What changes a map. `map_points` are laid out by UMAP, `graph_points` linked; None chooses by the photos."""

    n_neighbors: int = 15
    min_dist: float = 0.1
    min_cluster_size: int | None = None
    graph_threshold: float | None = None
    map_points: int = 200_000
    graph_points: int = 10_000
    seed: int = 0

    def of_places(self) -> dict[str, float]:
        """Those without which old places are of another map."""
        return {"n_neighbors": self.n_neighbors, "min_dist": self.min_dist, "seed": self.seed}


@dataclass(frozen=True)
class Map:
    """A map: what row i of each array says is of the photo `ids[i]`, ascending.

    `flat` (N, 2) and `deep` (N, 3) are its places, `cluster` and `community` -1 where it is in none, `isolation` the
    mean distance (1 - cosine) to its neighbours, `origin` whether UMAP placed it, or its neighbours, or they did later.
    """

    ids: Ids
    flat: Coordinates
    deep: Coordinates
    cluster: Labels
    community: Labels
    isolation: Vectors
    origin: np.ndarray[tuple[int], np.dtype[np.uint8]]
    clusters: tuple[Cluster, ...]
    links: Links
    min_cluster_size: int
    action: str = "made"
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Watch:
    """Hears how far the making is: `on_stage(what, photos)`, then `on_photos(count)` as they are done."""

    on_stage: Callable[[str, int], None] = lambda what, photos: None
    on_photos: Callable[[int], None] = lambda count: None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, photos: int = 0) -> Iterator[None]:
        self.on_stage(name, photos)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def make_map(
    photos: Photos,
    parameters: MapParameters,
    limit: int | None = None,
    old: Map | None = None,
    refit: bool = False,
    watch: Watch | None = None,
) -> Map:
    """Return the map of an index's photos, or of `limit` of them, drawn by id.

    Where there is an `old` one of the same vectors and parameters, photos that are gone leave it and new ones are
    placed by their neighbours, and nothing else moves. When more than a fifth came later, or to
    `refit`, all is laid out anew, from the old places.
    """
    watch = watch or Watch()
    ids = draw(photos.ids, limit, parameters.seed)
    if old is None:
        return _fit(photos, parameters, ids, None, watch)
    kept = _kept(old, ids)
    new = np.setdiff1d(ids, old.ids)
    if not refit and len(new) + (kept.origin == LATER).sum() <= REFIT_FROM_SHARE * len(ids):
        if not len(new) and len(kept) == len(old):
            return replace(kept, action="unchanged", seconds={})
        return _add(photos, parameters, kept, new, watch)
    return _fit(photos, parameters, ids, _add(photos, parameters, kept, new, watch), watch)


def _fit(photos: Photos, parameters: MapParameters, ids: Ids, old: Map | None, watch: Watch) -> Map:
    fitted = draw(ids, parameters.map_points, parameters.seed)
    find = photos.finder(fitted)
    with watch.stage("neighbours", len(fitted)):
        neighbours, start = _neighbours(photos, parameters, fitted, find, watch)
    if old is not None:
        rows = np.searchsorted(old.ids, fitted[neighbours.first])
    places = []
    for dimensions in (2, 3):
        with watch.stage(f"layout in {dimensions}-d"):
            begin = start[:, :dimensions] if old is None else (old.flat if dimensions == 2 else old.deep)[rows]
            laid = lay_out(neighbours, begin, parameters.min_dist, parameters.seed, again=old is not None)
            if old is not None:
                laid = aligned(laid, begin, np.ones(len(laid), bool))
            places.append(laid[neighbours.point_of])
    with watch.stage("clusters"):
        smallest = parameters.min_cluster_size or default_min_size(len(neighbours.first))
        labels = find_clusters(places[0][neighbours.first], smallest)[neighbours.point_of]
        if old is not None:
            labels = keep_numbers(labels, old.cluster[np.searchsorted(old.ids, fitted)])
    known = neighbours.known[:, 1:]
    isolation = (neighbours.distances[:, 1:] * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    made = Map(
        ids=fitted,
        flat=places[0],
        deep=places[1],
        cluster=labels,
        community=np.full(len(fitted), ALONE, np.int32),
        isolation=np.asarray(isolation[neighbours.point_of], np.float32),
        origin=np.full(len(fitted), FITTED, np.uint8),
        clusters=(),
        links=_no_links(),
        min_cluster_size=smallest,
        action="made" if old is None else "refitted",
    )
    with watch.stage("placing others", len(ids) - len(fitted)):
        made = _placed(photos, parameters, made, np.setdiff1d(ids, fitted), PLACED, watch)
    return _finish(photos, parameters, made, watch, neighbours if len(fitted) <= parameters.graph_points else None)


def _add(photos: Photos, parameters: MapParameters, kept: Map, new: Ids, watch: Watch) -> Map:
    with watch.stage("placing new photos", len(new)):
        grown = _placed(photos, parameters, replace(kept, action="updated"), new, LATER, watch)
    return _finish(photos, parameters, grown, watch)


def _neighbours(
    photos: Photos,
    parameters: MapParameters,
    ids: Ids,
    find: Callable[[Vectors, int], tuple[Vectors, Ids]],
    watch: Watch,
) -> tuple[Neighbours, Coordinates]:
    """Return the neighbours of the points of these photos, and where their PCA puts them: (points, 3)."""
    mean, axes = pca_start(photos.sample(draw(ids, _PCA_ROWS, parameters.seed)), 3)
    start = np.zeros((len(ids), 3), np.float32)

    def projecting() -> Iterator[tuple[Ids, Vectors]]:
        for some, vectors in photos.vectors_of(ids):
            start[np.searchsorted(ids, some), : axes.shape[1]] = (vectors - mean) @ axes
            yield some, vectors

    found = find_neighbours(find, projecting(), ids, parameters.n_neighbors, photos.vectors_of, watch.on_photos)
    return found, start[found.first]


def _placed(photos: Photos, parameters: MapParameters, made: Map, new: Ids, origin: np.uint8, watch: Watch) -> Map:
    """Return the map with these photos at the places that their neighbours on it give them."""
    if not len(new):
        return made

    def watched() -> Iterator[tuple[Ids, Vectors]]:
        for some, vectors in photos.vectors_of(new):
            yield some, vectors
            watch.on_photos(len(some))

    near, distances = near_on_map(photos.finder(made.ids), watched(), new, made.ids, parameters.n_neighbors)
    weights = weights_of(distances, near >= 0)
    slices = [slice(start, start + _VOTERS_AT_ONCE) for start in range(0, len(new), _VOTERS_AT_ONCE)]
    order = np.argsort(np.concatenate([made.ids, new]), kind="stable")

    def joined(old: np.ndarray, added: np.ndarray) -> np.ndarray:
        return np.concatenate([old, added.astype(old.dtype)])[order]

    known = near >= 0
    isolation = (distances * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return replace(
        made,
        ids=joined(made.ids, new),
        flat=joined(made.flat, placed_at(near, weights, made.flat)),
        deep=joined(made.deep, placed_at(near, weights, made.deep)),
        cluster=joined(made.cluster, np.concatenate([voted(near[s], weights[s], made.cluster) for s in slices])),
        community=joined(made.community, np.full(len(new), ALONE)),
        isolation=joined(made.isolation, isolation),
        origin=joined(made.origin, np.full(len(new), origin)),
    )


def _finish(
    photos: Photos, parameters: MapParameters, made: Map, watch: Watch, neighbours: Neighbours | None = None
) -> Map:
    """Describe the clusters, and link photos that are alike; with `neighbours` if those of all its photos are known."""
    with watch.stage("clusters"):
        clusters = describe_clusters(made.ids, made.flat, made.cluster, photos.vectors_of)
    linked = draw(made.ids, parameters.graph_points, parameters.seed)
    with watch.stage("graph", len(linked)):
        if neighbours is None or len(linked) != len(neighbours.point_of):
            neighbours, _ = _neighbours(photos, parameters, linked, photos.finder(linked), watch)
        links = link(neighbours, linked, parameters.graph_threshold)
        community = np.full(len(made), ALONE, np.int32)
        found = spread_to_copies(find_communities(links, linked, parameters.seed), neighbours)
        community[np.searchsorted(made.ids, linked)] = found
    return replace(made, clusters=tuple(clusters), links=links, community=community, seconds=dict(watch.seconds))


def _kept(old: Map, ids: Ids) -> Map:
    """The old map without the photos that are gone."""
    rows = np.flatnonzero(np.isin(old.ids, ids, assume_unique=True))
    names = ("ids", "flat", "deep", "cluster", "community", "isolation", "origin")
    return replace(old, **{name: getattr(old, name)[rows] for name in names})


def _no_links() -> Links:
    nothing = np.empty(0, np.int64)
    return Links(nothing, nothing, np.empty(0, np.float32), 0.0)
