"""Groups of near copies: stars, whose members are all near their centre.

Copies of copies make chains: a is like b, b like c, and so on to a photo that is nothing like a. Connected components
take a whole chain for one group. A star takes only what is near its centre: the star clustering of Aslam, Pelekhov and
Rus (https://doi.org/10.7155/jgaa.00084), in which centres are chosen by how much they are like their neighbours.
"""

import numpy as np
from numpy.typing import NDArray

from imgrec.search.duplicates.contents import Contents, Places
from imgrec.search.duplicates.likeness import Scores
from imgrec.search.indexes.vectors import Vectors

# Centres that are compared with a crowded component at once.
_CENTRES = 256
# Rows of a crowded component that are kept in memory; those of a larger one are read for every round.
_KEPT_BYTES = 2**28


def centrality(count: int, pairs: Places, scores: Scores) -> Places:
    """Rank nodes by the sum of their scores, from 0 for the most central; of equal ones the first comes first."""
    strength = np.bincount(pairs.ravel(), np.repeat(scores, 2).astype(np.float64), minlength=count)
    rank = np.empty(count, np.int64)
    rank[np.argsort(-strength, kind="stable")] = np.arange(count)
    return rank


def stars(rank: Places, pairs: Places, scores: Scores) -> Places:
    """Return the centre of every node, itself where it is alone: each is a neighbour of its centre, the nearest one.

    Centres are no neighbours of each other. A node becomes one if no more central neighbour is left for it to join.
    """
    source, target = np.concatenate([pairs, pairs[:, ::-1]]).T
    undecided = np.zeros(len(rank), bool)
    undecided[source] = True
    is_centre = ~undecided
    here, there = source, target
    while undecided.any():
        best = np.full(len(rank), len(rank))
        np.minimum.at(best, here, rank[there])
        chosen = undecided & (rank < best)
        is_centre |= chosen
        undecided &= ~chosen
        undecided[there[chosen[here]]] = False
        left = undecided[here] & undecided[there]
        here, there = here[left], there[left]
    return _nearest_centre(rank, is_centre, source, target, np.concatenate([scores, scores]))


def _nearest_centre(
    rank: Places, is_centre: NDArray[np.bool_], source: Places, target: Places, scores: Scores
) -> Places:
    centre_of = np.arange(len(rank))
    joins = is_centre[source] & ~is_centre[target]
    source, target, scores = source[joins], target[joins], scores[joins]
    order = np.lexsort((rank[source], -scores, target))
    joined, first = np.unique(target[order], return_index=True)
    centre_of[joined] = source[order][first]
    return centre_of


def crowded_stars(contents: Contents, rank: Places, members: Places) -> Places:
    """Return the centre of each of `members`, a component whose pairs are too many to be listed.

    The same as `stars`, from exact scores of all members to all centres.
    """
    order = members[np.argsort(rank[members])]
    kept = contents.rows(order) if len(order) * 4 * contents.vectors.dim <= _KEPT_BYTES else None
    step = contents.vectors.batch_size
    best = np.full(len(order), -np.inf, np.float32)
    centre_of = order.copy()
    waiting = np.ones(len(order), bool)
    while waiting.any():
        asked = np.flatnonzero(waiting)[:_CENTRES]
        rows = contents.rows(order[asked]) if kept is None else kept[asked]
        chosen = _apart(_judge(contents, rows, rows, order[asked], order[asked])[1])
        centres, rows = order[asked[chosen]], rows[chosen]
        for start in range(0, len(order), step):
            part = slice(start, start + step)
            there = contents.rows(order[part]) if kept is None else kept[part]
            scores, near = _judge(contents, there, rows, order[part], centres)
            scores[~near] = -np.inf
            nearest = scores.argmax(axis=1)
            score = scores[np.arange(len(scores)), nearest]
            waiting[part] &= ~near.any(axis=1)
            closer = score > best[part]
            best[part][closer] = score[closer]
            centre_of[part][closer] = centres[nearest[closer]]
        waiting[asked[chosen]] = False
        centre_of[asked[chosen]], best[asked[chosen]] = centres, np.inf
    found = np.empty_like(members)
    found[np.argsort(rank[members])] = centre_of
    return found


def _judge(
    contents: Contents, rows: Vectors, others: Vectors, places: Places, other_places: Places
) -> tuple[Scores, NDArray[np.bool_]]:
    masks, other_masks = contents.masks[places][:, np.newaxis], contents.masks[other_places]
    return contents.likeness.judge(rows @ others.T, masks, other_masks)


def _apart(near: NDArray[np.bool_]) -> list[int]:
    """The rows, the first one first, that are near none of those chosen before."""
    chosen: list[int] = []
    for row in range(len(near)):
        if not near[row, chosen].any():
            chosen.append(row)
    return chosen
