"""Weights as users write them, and grids of them."""

import pytest

from imgrec.search.evaluation.errors import WeightsError
from imgrec.search.evaluation.weightings import MAX_GRID, grid, parse_weights

KNOWN = ("color", "sift", "efficientnet")


def test_weights_are_shares_in_the_order_that_people_are_shown() -> None:
    parsed = parse_weights(" efficientnet=2, color=1,sift=0 ", KNOWN)
    assert list(parsed.weights) == ["color", "efficientnet"]
    assert list(parsed.weights.values()) == pytest.approx([1 / 3, 2 / 3])
    assert parsed.name == "color=1,efficientnet=2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour=1", "no modality 'colour' in these indexes: there are color, sift, efficientnet"),
        ("color=1,color=2", "color is named twice"),
        ("color", "color needs a number of 0 or more"),
        ("color=-1", "color needs a number of 0 or more"),
        ("color=nan", "color needs a number"),
        ("color=inf", "color needs a number"),
        ("color=0", "nothing weighs anything"),
        ("", "nothing weighs anything"),
    ],
)
def test_what_makes_no_sense_is_said(text: str, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        parse_weights(text, KNOWN)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 11), (3, 66), (4, 56), (5, 70), (6, 56)])
def test_a_grid_is_small_and_has_each_modality_alone(count: int, size: int) -> None:
    names = [f"m{number}" for number in range(count)]
    found = grid(names)
    assert len(found) == size <= MAX_GRID
    assert all(sum(each.weights.values()) == pytest.approx(1) for each in found)
    assert len({each.name for each in found}) == size
    assert {name for each in found if len(each.weights) == 1 for name in each.weights} == set(names)
