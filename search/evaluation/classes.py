"""Photos of the same class: is the nearest one of it, and how pure is the top of the list?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgrec.search.evaluation.engine import StoredVectors, place_in
from imgrec.search.evaluation.exact import Excluded, Nearest, fuse, score_blocks
from imgrec.search.evaluation.labels import Labels
from imgrec.search.evaluation.sampling import draw, draw_gallery, same_contents
from imgrec.search.evaluation.weightings import Weighting
from imgrec.search.indexes.vectors import Ids, Mask, Vectors

# How long the lists are that are judged.
DEPTH = 50

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassScores:
    """What each query was worth: (queries,), each in [0, 1].

    `precision` is the mean of the precisions at the right ones among the 50 nearest, and 0 if there are none, as
    `benchmarks.quality` and torchmetrics' RetrievalMAP(top_k=50) have it. `strict` divides by all that should be among
    them.
    """

    first: Floats
    precision: Floats
    strict: Floats


@dataclass(frozen=True)
class ClassLists:
    """The lists that classes are judged by: of each weighting, the ids of the nearest photos, (queries, DEPTH).

    `relevant` counts what each query should find. `alone` counts queries that were left out, having nothing to find.
    """

    labels: Labels
    queries: Ids
    codes: NDArray[np.int32]
    relevant: NDArray[np.int64]
    photos: int
    alone: int
    nearest: Mapping[str, Ids]

    def judge(self, nearest: Ids) -> ClassScores:
        """Judge lists of ids, (queries, …), best first, -1 for none."""
        right = self._right(nearest)[:, :DEPTH]
        precision = (np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1) * right).sum(axis=1)
        return ClassScores(
            first=right[:, 0].astype(np.float64),
            precision=precision / np.maximum(right.sum(axis=1), 1),
            strict=precision / np.minimum(self.relevant, right.shape[1]),
        )

    def _right(self, nearest: Ids) -> Mask:
        places, known = place_in(nearest, self.labels.ids)
        return np.asarray(known & (self.labels.codes[places] == self.codes[:, None]))


def list_nearest(
    stored: StoredVectors,
    labels: Labels,
    depths: Mapping[Weighting, int],
    sample: int,
    among: int,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ClassLists:
    """Find the labelled photos nearest to each of a sample of them, exactly, as many as `depths` says by weighting.

    A photo's own copies (files of equal content) are no answers. At most `among` photos, drawn, are searched among.
    """
    complete = stored.live_ids(stored.modalities)
    labelled = labels.ids[place_in(labels.ids, complete)[1]]
    queries = draw(labelled, sample, seed)
    gallery = draw_gallery(labelled, queries, among, seed)
    rows, copies = same_contents(stored.registry, queries)
    codes = labels.codes[np.searchsorted(labels.ids, queries)]
    relevant = _count_relevant(labels, gallery, codes, rows, copies)
    kept = relevant > 0
    place = np.cumsum(kept) - 1
    excluded = Excluded(place[rows[kept[rows]]], copies[kept[rows]])
    vectors: dict[str, Vectors] = stored.of(queries[kept])
    nearest = {each: Nearest(int(kept.sum()), depth) for each, depth in depths.items()}
    if kept.any():
        for ids, cosines in score_blocks(stored, gallery, vectors, on_progress):
            for each, found in nearest.items():
                scores = fuse(cosines, each.weights)
                excluded.apply(ids, scores)
                found.add(ids, scores)
    lists = {each.name: found.best()[1] for each, found in nearest.items()}
    return ClassLists(labels, queries[kept], codes[kept], relevant[kept], len(gallery), int((~kept).sum()), lists)


def _count_relevant(
    labels: Labels, gallery: Ids, codes: NDArray[np.int32], rows: Ids, copies: Ids
) -> NDArray[np.int64]:
    """Count what is of each query's class in the gallery, without its own copies."""
    sizes = np.bincount(labels.codes[np.searchsorted(labels.ids, gallery)], minlength=len(labels.classes))
    places, known = place_in(copies, labels.ids)
    same = known & place_in(copies, gallery)[1] & (labels.codes[places] == codes[rows])
    return np.asarray(sizes[codes] - np.bincount(rows[same], minlength=len(codes)))
