"""Equal rows are found, and others never taken for equal."""

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgrec.search.indexes import copies
from imgrec.search.indexes.copies import group_equal, keep_only


def drawn(numbers: list[int], dim: int) -> NDArray[np.float32]:
    """Rows of a few kinds, which differ in their last word only; kinds 0 and 1 in the sign of a zero."""
    kinds = np.zeros((7, dim), np.float32)
    kinds[1:, -1] = [-0.0, 1, 2, 3, np.nan, np.inf]
    return kinds[numbers]


def check(numbers: list[int], dim: int, shared: bool) -> None:
    rows = drawn(numbers, dim)
    distinct, place = group_equal(rows)
    assert rows.tobytes() == rows[distinct[place]].tobytes()
    assert (np.diff(distinct) > 0).all()
    if shared:
        assert distinct.tolist() == [at for at, number in enumerate(numbers) if number not in numbers[:at]]
    else:
        assert len({rows[row].tobytes() for row in distinct}) == len(set(numbers))
    expected = rows[distinct].tobytes()
    assert keep_only(rows, distinct).tobytes() == expected


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 5), st.integers(1, 4))
def test_rows_are_grouped_as_a_dictionary_would(numbers: list[int], dim: int, at_once: int) -> None:
    with patch.object(copies, "_ROWS_AT_ONCE", at_once):
        check(numbers, dim, shared=True)


@given(st.lists(st.integers(0, 6), max_size=60))
def test_rows_of_one_key_that_differ_stay_apart(numbers: list[int]) -> None:
    with patch.object(copies, "_keys", lambda words: np.zeros(len(words), np.uint64)):
        check(numbers, 2, shared=False)
