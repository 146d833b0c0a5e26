"""The similarity graph: photos, linked to the nearest ones that are alike enough, in communities."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.search.map.clusters import ALONE, Labels
from imgrec.search.map.neighbours import Neighbours

if TYPE_CHECKING:
    import networkx


@dataclass(frozen=True)
class Links:
    """Pairs of photos, (links,) each, by id, the smaller one first, and their cosine, `threshold` or more."""

    source: Ids
    target: Ids
    similarity: Vectors
    threshold: float


def link(neighbours: Neighbours, ids: Ids, threshold: float | None = None) -> Links:
    """Link the photos `ids` of a map to their nearest ones; of copies one stands for all.

    Without a threshold, it is the median similarity of neighbours, so that half of them are linked.
    """
    pairs = neighbours.known.copy()
    pairs[:, 0] = False
    sources = np.broadcast_to(np.arange(len(pairs))[:, np.newaxis], pairs.shape)[pairs]
    targets, similarity = neighbours.places[pairs], 1 - neighbours.distances[pairs]
    if threshold is None:
        threshold = float(np.median(similarity)) if len(similarity) else 0.0
    alike = similarity >= threshold
    ends = ids[neighbours.first[np.column_stack([sources[alike], targets[alike]])]]
    ends, row = np.unique(np.sort(ends, axis=1), axis=0, return_index=True)
    return Links(ends[:, 0], ends[:, 1], np.asarray(similarity[alike][row], np.float32), threshold)


def to_networkx(links: Links) -> "networkx.Graph[int]":
    """Return the graph, weighted by similarity; photos without a link are not in it."""
    import networkx

    graph: networkx.Graph[int] = networkx.Graph()
    graph.add_weighted_edges_from(
        zip(links.source.tolist(), links.target.tolist(), links.similarity.tolist(), strict=True)
    )
    return graph


def find_communities(links: Links, ids: Ids, seed: int) -> Labels:
    """Return the community of each of the photos `ids` (ascending), 0 the largest; ALONE for those without a link.

    Louvain's method (Blondel et al. 2008, https://arxiv.org/abs/0803.0476), the same for the same seed.
    """
    from networkx.algorithms.community import louvain_communities

    labels = np.full(len(ids), ALONE, np.int32)
    found = louvain_communities(to_networkx(links), seed=seed) if len(links.source) else []
    for number, community in enumerate(sorted(found, key=lambda some: (-len(some), min(some)))):
        labels[np.searchsorted(ids, sorted(community))] = number
    return labels


def spread_to_copies(labels: Labels, neighbours: Neighbours) -> Labels:
    """Give all photos of a point the label of its first one."""
    return labels[neighbours.first[neighbours.point_of]]
