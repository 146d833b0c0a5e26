"""Weights as users write them, and grids of them."""

import pytest

from imgrec.search.evaluation.errors import WeightsError
from imgrec.search.evaluation.weightings import MAX_GRID, grid, parse_weighting

KNOWN = ("color", "sift", "efficientnet")


def test_weights_are_shares_in_the_order_that_people_are_shown() -> None:
    parsed = parse_weighting(" efficientnet=2, color=1,sift=0 ", KNOWN)
    assert list(parsed.weights) == ["color", "efficientnet"]
    assert list(parsed.weights.values()) == pytest.approx([1 / 3, 2 / 3])
    assert parsed.name == "color=1,efficientnet=2"


def test_a_modality_that_no_index_has_is_named() -> None:
    with pytest.raises(WeightsError, match="no modality 'colour' in these indexes: there are color"):
        parse_weighting("colour=1", KNOWN)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 11), (3, 66), (4, 56), (5, 70), (6, 56)])
def test_a_grid_is_small_and_has_each_modality_alone(count: int, size: int) -> None:
    names = [f"m{number}" for number in range(count)]
    found = grid(names)
    assert len(found) == size <= MAX_GRID
    assert all(sum(each.weights.values()) == pytest.approx(1) for each in found)
    assert len({each.name for each in found}) == size
    assert {name for each in found if len(each.weights) == 1 for name in each.weights} == set(names)
