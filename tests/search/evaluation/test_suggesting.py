"""Suggested weights: chosen on one half, judged on the other, and chance is called chance."""

import numpy as np
import pytest

from imgrec.search.evaluation.suggesting import interval, suggest
from imgrec.search.evaluation.weightings import Weighting

PRESENT, BETTER, OTHER = (Weighting(name, {name: 1.0}) for name in ("color", "sift", "layout"))


def test_a_real_difference_is_told_as_one() -> None:
    random = np.random.default_rng(0)
    worth = random.uniform(0.2, 0.6, 400)
    values = {"color": worth, "sift": worth + random.normal(0.1, 0.1, 400), "layout": worth - 0.1}
    found = suggest(PRESENT, [BETTER, OTHER], {"map": values}, seed=0)
    assert found.suggested is BETTER
    assert (found.tried, found.chosen_on, found.judged_on) == (2, 200, 200)
    assert found.overall.is_real
    assert found.overall.low < found.overall.difference < found.overall.high
    assert found.overall.difference == pytest.approx(0.1, abs=0.02)


def test_chance_is_not_told_as_a_difference() -> None:
    told = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        values = {"color": random.uniform(size=100)}
        tried = [Weighting(f"m{number}", {f"m{number}": 1.0}) for number in range(60)]
        values |= {each.name: random.uniform(size=100) for each in tried}
        told += suggest(PRESENT, tried, {"copies": values}, seed).overall.is_real
    assert told <= 4  # where the best of sixty were judged on what it was chosen on, nearly all would be


def test_present_weights_stay_where_none_is_better() -> None:
    values = {"color": np.ones(50), "sift": np.zeros(50)}
    found = suggest(PRESENT, [BETTER], {"map": values}, seed=0)
    assert found.suggested is PRESENT
    assert (found.overall.difference, found.overall.is_real) == (0, False)


def test_both_measures_count_alike() -> None:
    first = {"color": np.full(10, 0.5), "sift": np.full(10, 0.4), "layout": np.full(10, 0.55)}
    second = {"color": np.full(300, 0.5), "sift": np.full(300, 0.9), "layout": np.full(300, 0.5)}
    found = suggest(PRESENT, [BETTER, OTHER], {"map": first, "copies": second}, seed=0)
    assert found.suggested is BETTER
    assert found.overall.difference == pytest.approx((-0.1 + 0.4) / 2)
    assert found.by_measure["map"].difference == pytest.approx(-0.1)


def test_an_interval_holds_the_mean() -> None:
    values = np.random.default_rng(1).uniform(size=500)
    low, high = interval(values, seed=0)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(500), rel=0.1)
