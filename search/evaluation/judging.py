"""Vectors and weights judged by labels: lists, lists ranked anew, and what each query was worth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgrec.search.evaluation.classes import DEPTH, ClassLists, list_nearest
from imgrec.search.evaluation.engine import StoredVectors
from imgrec.search.evaluation.errors import LabelsError
from imgrec.search.evaluation.labels import Labels
from imgrec.search.evaluation.plan import Plan
from imgrec.search.evaluation.results import Classes, ClassQuality, class_quality
from imgrec.search.evaluation.weightings import Weighting
from imgrec.search.indexes.vectors import Ids
from imgrec.search.reranking import LENGTH, expanded_order

# What is judged by labels where searching is not measured, which would say how many.
QUERIES = 1_000
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Judged:
    """How well classes are found, and by weighting (those tried for a suggestion among them) each query's AP."""

    classes: Classes
    values: Mapping[str, NDArray[np.float64]]


def judge_classes(
    stored: StoredVectors,
    labels: Labels,
    weightings: Sequence[Weighting],
    tried: Sequence[Weighting],
    plan: Plan,
    on_progress: OnProgress = lambda done, total: None,
    on_expanded: OnProgress = lambda done, total: None,
) -> Judged:
    """Judge weightings by labels; `tried` ones are for a suggestion only.

    Raises:
        LabelsError: no labelled photo has another one to find.
    """
    depths = dict.fromkeys(tried, DEPTH) | dict.fromkeys(weightings, LENGTH if plan.expand else DEPTH)
    lists = list_nearest(stored, labels, depths, plan.sample or QUERIES, plan.among, plan.seed, on_progress)
    if not len(lists.queries):
        raise LabelsError(f"labels {plan.labels}: no photo has another one of its class, so there is nothing to find")
    scores = {each.name: lists.judge(lists.nearest[each.name]) for each in depths}
    qualities: list[ClassQuality] = []
    for place, each in enumerate(weightings):
        qualities.append(class_quality(lists, each, scores[each.name], False, plan.seed))
        if plan.expand:
            nearest = _expand(stored, lists, each)
            on_expanded(place + 1, len(weightings))
            qualities.append(class_quality(lists, each, lists.judge(nearest), True, plan.seed))
    classes = Classes(
        labels=str(plan.labels),
        classes=len(np.unique(lists.codes)),
        photos=lists.photos,
        queries=len(lists.queries),
        alone=lists.alone,
        unknown=labels.unknown,
        qualities=tuple(qualities),
    )
    return Judged(classes, {name: one.precision for name, one in scores.items()})


def _expand(stored: StoredVectors, lists: ClassLists, weighting: Weighting) -> Ids:
    """Rank the lists of a weighting anew."""
    ranked = np.full_like(lists.nearest[weighting.name], -1)
    for place, (query, found) in enumerate(zip(lists.queries, lists.nearest[weighting.name], strict=True)):
        ids = found[found >= 0]
        rows = stored.of(np.concatenate([[query], ids]))
        parts = [weight * (rows[name] @ rows[name].T) for name, weight in weighting.weights.items()]
        ranked[place, : len(ids)] = ids[expanded_order(np.sum(parts, axis=0))]
    return ranked
