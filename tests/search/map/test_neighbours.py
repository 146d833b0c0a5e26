"""Neighbours of points: the true ones, whatever copies, missing answers and strangers an index gives."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.search.map.drawing import draw
from imgrec.search.map.neighbours import NOBODY, Neighbours, find_neighbours, finder_among
from tests.search.libraries import random_rows


def neighbours_of(vectors: Vectors, ids: Ids, k: int) -> Neighbours:
    def batches(some: Ids) -> Iterator[tuple[Ids, Vectors]]:
        for part in np.array_split(some, 3):
            if len(part):
                yield part, vectors[np.searchsorted(ids, part)]

    find = finder_among(batches(ids), vectors.shape[1])
    return find_neighbours(find, batches(ids[::-1]), ids, k, batches, lambda count: None)


def test_they_are_the_nearest_ones() -> None:
    vectors, ids = random_rows(400, 16), np.arange(400) * 3 + 7
    found = neighbours_of(vectors, ids, 10)
    exact = np.argsort(-(vectors @ vectors.T), axis=1, kind="stable")[:, :10]
    points = found.first[found.places[found.point_of]]
    assert (points == exact).mean() > 0.999
    assert (found.places[:, 0] == np.arange(400)).all()
    assert (found.distances[:, 0] == 0).all()
    assert (np.diff(found.distances, axis=1) >= 0).all()
    row = found.point_of[5]
    np.testing.assert_allclose(found.distances[row, 1:], 1 - (vectors @ vectors[5])[exact[5, 1:]], atol=1e-5)


def test_copies_are_one_point_and_take_up_no_places() -> None:
    distinct = random_rows(60, 16)
    vectors = np.concatenate([distinct, np.repeat(distinct[:1], 300, axis=0)])
    found = neighbours_of(vectors, np.arange(360), 8)
    assert len(found.first) == 60
    assert len(set(found.point_of[[0, *range(60, 360)]])) == 1
    assert found.known.all()
    alone = neighbours_of(distinct, np.arange(60), 8)
    of_first, expected = found.places[found.point_of[0]], alone.places[alone.point_of[0]]
    assert set(found.first[of_first]) == set(alone.first[expected])
    for row in found.places:
        assert len(set(row)) == 8


@given(st.integers(1, 40), st.integers(1, 6), st.integers(2, 12))
def test_they_are_repaired_whatever_the_index_answers(photos: int, distinct: int, k: int) -> None:
    vectors = random_rows(distinct, 8)[np.random.default_rng(0).integers(0, distinct, photos)]
    found = neighbours_of(vectors, np.arange(photos) + 1, k)
    points = len(found.first)
    assert found.places.shape == (points, min(k, points))
    assert np.isfinite(found.distances).all()
    assert (found.places[:, 0] == np.arange(points)).all()
    assert (found.places >= NOBODY).all()
    assert all(len(set(row[row != NOBODY])) == (row != NOBODY).sum() for row in found.places)
    np.testing.assert_array_equal(vectors, vectors[found.first[found.point_of]])


def test_strangers_and_lost_rows_are_left_out() -> None:
    vectors, ids = random_rows(50, 8), np.arange(50)
    whole = finder_among([(ids, vectors)], 8)

    def odd(queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """An index that knows other photos, loses some rows, and does not find the query itself."""
        scores, found = whole(queries, min(50, k + 1))
        found = found[:, 1:].copy()
        found[:, 0] = 900
        found[:, -1] = -1
        scores = scores[:, 1:].copy()
        scores[:, -1] = -np.inf
        return scores, found

    def batches(some: Ids) -> list[tuple[Ids, Vectors]]:
        return [(some, vectors[some])]

    found = find_neighbours(odd, batches(ids), ids, 5, batches, lambda count: None)
    assert (found.places[:, 0] == np.arange(50)).all()
    assert np.isfinite(found.distances).all()
    assert found.places.max() < 50
    exact = np.argsort(-(vectors @ vectors.T), axis=1)[:, 2]  # the nearest was taken away
    assert (found.first[found.places[found.point_of, 1]] == exact).all()


@pytest.mark.parametrize("count", [1, 50, 999])
def test_a_drawn_sample_stays_as_photos_come(count: int) -> None:
    before, after = np.arange(1, 1001), np.arange(1, 1101)
    first, then = draw(before, count, 3), draw(after, count, 3)
    assert len(first) == len(set(first)) == count
    assert (np.diff(first) > 0).all()
    assert len(np.intersect1d(first, then)) >= 0.8 * count - 3
    assert set(then) - set(first) <= set(range(1001, 1101))
    assert count in (1, 999) or set(first) != set(draw(before, count, 4))
    assert draw(before, None, 0) is before
