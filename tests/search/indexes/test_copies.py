"""Equal rows share a number, and others never do."""

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgrec.search.indexes import copies
from imgrec.search.indexes.copies import Distinct


def drawn(numbers: list[int], dim: int) -> NDArray[np.float32]:
    """Rows of a few kinds, which differ in their last word only; kinds 0 and 1 in the sign of a zero."""
    kinds = np.zeros((7, dim), np.float32)
    kinds[1:, -1] = [-0.0, 1, 2, 3, np.nan, np.inf]
    return kinds[numbers]


@given(st.lists(st.lists(st.integers(0, 6), max_size=20), max_size=8), st.integers(1, 5), st.integers(1, 4))
def test_rows_are_numbered_as_a_dictionary_would(batches: list[list[int]], dim: int, at_once: int) -> None:
    known: dict[int, int] = {}
    distinct = Distinct(np.empty(0, np.uint64))
    for numbers in batches:
        with patch.object(copies, "_ROWS_AT_ONCE", at_once):
            is_first, rows = distinct.number(drawn(numbers, dim))
        assert is_first.tolist() == [
            number not in known and number not in numbers[:place] for place, number in enumerate(numbers)
        ]
        assert rows.tolist() == [known.setdefault(number, len(known)) for number in numbers]
    assert distinct.count == len(known) == len(distinct.new_keys)


@given(st.lists(st.integers(0, 6), max_size=30), st.lists(st.integers(0, 6), max_size=30))
def test_numbering_goes_on_from_keys_that_were_kept(before: list[int], after: list[int]) -> None:
    whole, first = Distinct(np.empty(0, np.uint64)), Distinct(np.empty(0, np.uint64))
    whole.number(drawn(before, 3))
    first.number(drawn(before, 3))
    later = Distinct(first.new_keys)
    assert later.number(drawn(after, 3))[1].tolist() == whole.number(drawn(after, 3))[1].tolist()


def test_a_single_bit_makes_another_row() -> None:
    """Whichever it is: a sum of words times even numbers would lose the upper ones."""
    rows = np.zeros((32 * 8 + 1, 8), np.uint32)
    for bit in range(32 * 8):
        rows[bit, bit // 32] = 1 << (bit % 32)
    assert Distinct(np.empty(0, np.uint64)).number(rows.view(np.float32))[0].all()
