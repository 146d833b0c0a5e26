"""Exact scores, streamed: the same as all at once."""

from pathlib import Path

import numpy as np
import pytest

from imgrec.search.evaluation import exact
from imgrec.search.evaluation.engine import StoredVectors, open_subjects
from imgrec.search.evaluation.exact import Excluded, Nearest, fuse, score_blocks
from imgrec.storage.library import create_library
from tests.search.libraries import VectorLibrary, random_rows


@pytest.mark.parametrize("in_shard", [True, False])
def test_blocks_give_the_same_neighbours_as_all_at_once(
    vectors: VectorLibrary, in_shard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, queries = random_rows(700, 8), random_rows(5, 8, seed=1)
    ids = np.array(vectors.add(rows[:400], in_shard) + vectors.add(rows[400:], in_shard))
    vectors.update()
    home = create_library(vectors.root, Path("photos"), ("color",), {})
    monkeypatch.setattr(exact, "BLOCK_BYTES", 1)  # blocks of 64
    stored = StoredVectors(vectors.registry, home, open_subjects(home))
    nearest, blocks, told = Nearest(5, 12), 0, (0, 0)
    excluded = Excluded(np.array([2, 2, 0]), ids[[650, 3, 1]])

    def on_progress(done: int, total: int) -> None:
        nonlocal told
        told = done, total

    for some, cosines in score_blocks(stored, ids, {"color": queries}, on_progress):
        scores = fuse(cosines, {"color": 1.0})
        excluded.apply(some, scores)
        nearest.add(some, scores)
        blocks += 1

    expected = queries @ rows.T
    expected[[2, 2, 0], [650, 3, 1]] = -np.inf
    best = np.argsort(-expected, axis=1)[:, :12]
    scores, found = nearest.best()
    assert blocks >= 11
    assert told == (700, 700)
    np.testing.assert_array_equal(found, ids[best])
    np.testing.assert_allclose(scores, np.take_along_axis(expected, best, axis=1), atol=1e-6)


def test_short_lists_end_in_nothing() -> None:
    nearest = Nearest(2, 4)
    scores = np.array([[0.5, -0.25], [0.1, -np.inf]], np.float32)
    nearest.add(np.array([7, 9]), scores)
    found, ids = nearest.best()
    assert ids.tolist() == [[7, 9, -1, -1], [7, -1, -1, -1]]
    assert found.tolist() == [[0.5, -0.25, -np.inf, -np.inf], [np.float32(0.1), -np.inf, -np.inf, -np.inf]]


def test_weighted_cosines_are_summed_and_left_as_they_are() -> None:
    cosines = {"color": np.ones((1, 2), np.float32), "sift": np.array([[0.0, 1.0]], np.float32)}
    assert fuse(cosines, {"color": 0.25, "sift": 0.75}).tolist() == [[0.25, 1.0]]
    assert cosines["color"].tolist() == [[1.0, 1.0]]
