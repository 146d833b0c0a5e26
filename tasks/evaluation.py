"""The steps of an evaluation, as plain functions. They read a library and write nothing into it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.machine import Machine
from imgrec.search.evaluation.copies import find_originals, make_copies
from imgrec.search.evaluation.engine import StoredVectors, Subject, open_subjects
from imgrec.search.evaluation.errors import EvaluationError
from imgrec.search.evaluation.judging import Judged, judge_classes
from imgrec.search.evaluation.labels import read_labels
from imgrec.search.evaluation.plan import Plan
from imgrec.search.evaluation.results import CopiesFound, copy_quality
from imgrec.search.evaluation.searching import SearchQuality, measure_searching
from imgrec.search.evaluation.weightings import Weighting, grid, parse_weighting, weighting_of
from imgrec.search.names import by_preference
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry
from imgrec.tasks.driver import current_driver


@dataclass(frozen=True)
class CopiesJudged:
    """How well copies are found, and by weighting (those tried for a suggestion among them) each photo's share."""

    copies: CopiesFound
    values: Mapping[str, NDArray[np.float64]]


def measure_search(library: Library, plan: Plan) -> list[SearchQuality]:
    """Measure recall, latency and throughput of each index."""
    with _opened(library, plan) as (stored, subjects):
        on_progress = partial(current_driver().on_progress, "exact search")
        return measure_searching(stored, subjects, plan.sample, plan.k, plan.seed, on_progress)


def judge_labels(library: Library, plan: Plan) -> Judged:
    """Judge indexes and weights by labels."""
    with _opened(library, plan) as (stored, subjects):
        labels = read_labels(stored.registry, library, str(plan.labels))
        weightings, tried = weightings_of(stored, subjects, plan)
        driver = current_driver()
        return judge_classes(
            stored, labels, weightings, tried, plan,
            partial(driver.on_progress, "classes"), partial(driver.on_progress, "classes, --expand"),
        )  # fmt: skip


def judge_copies(library: Library, plan: Plan, limits: Mapping[str, float], machine: Machine) -> CopiesJudged:
    """Judge indexes and weights by distorted copies, which are made on the fly and not kept."""
    driver = current_driver()
    with _opened(library, plan) as (stored, subjects):
        weightings, tried = weightings_of(stored, subjects, plan)
        copies = make_copies(
            stored, library, plan.copies, plan.seed, driver.pool, 2 * driver.pool.workers, limits, machine,
            partial(driver.on_progress, "making copies"),
        )  # fmt: skip
        every = [*tried, *weightings]
        scores = find_originals(
            stored, copies, every, plan.among, plan.seed, partial(driver.on_progress, "finding originals")
        )
        qualities = tuple(copy_quality(scores, each, plan.seed) for each in weightings)
        found = CopiesFound(len(scores.photos), scores.lost, scores.among, qualities)
        return CopiesJudged(found, {name: hits.mean(axis=1) for name, hits in scores.found.items()})


def weightings_of(
    stored: StoredVectors, subjects: list[Subject], plan: Plan
) -> tuple[list[Weighting], list[Weighting]]:
    """The weightings to judge, of indexes and of the plan, and those to try for a suggestion."""
    asked = [parse_weighting(text, stored.modalities) for text in plan.weights]
    weightings = list({each.name: each for each in [*map(weighting_of, subjects), *asked]}.values())
    return weightings, grid(stored.modalities) if plan.suggest else []


def weightings_to_suggest(library: Library, plan: Plan) -> tuple[Weighting, list[Weighting]]:
    """What is searched when no index is named, which a suggestion is compared with, and what to choose from.

    Raises:
        EvaluationError: no index combines anything.
    """
    with _opened(library, plan) as (stored, subjects):
        weightings, tried = weightings_of(stored, subjects, plan)
    present = {each.name: each for each in weightings}[by_preference([subject.name for subject in subjects])[0]]
    if len(present.weights) < 2:
        raise EvaluationError("weights can be suggested where an index combines two modalities or more: name one")
    return present, tried


def check_plan(library: Library, plan: Plan) -> None:
    """Refuse what cannot be evaluated before anything long begins.

    Raises:
        ImgrecError: an index is missing, a weight or a label makes no sense, or there is no photo.
    """
    with _opened(library, plan) as (stored, subjects):
        weightings_of(stored, subjects, plan)
        if plan.labels:
            read_labels(stored.registry, library, plan.labels)
        if len(stored.live_ids(stored.modalities)) < 2:
            raise EvaluationError(f"{library.root} has fewer than two photos with vectors: nothing can be compared")
    if plan.suggest:
        weightings_to_suggest(library, plan)


@contextmanager
def _opened(library: Library, plan: Plan) -> Iterator[tuple[StoredVectors, list[Subject]]]:
    subjects = open_subjects(library, plan.indexes, plan.ef_search)
    with Registry.open_for_reading(library.registry_path) as registry:
        yield StoredVectors(registry, library, subjects), subjects
