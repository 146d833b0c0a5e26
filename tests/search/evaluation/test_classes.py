"""Classes: the same numbers as the benchmark's, without a photo's own copies."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import precisions
from imgrec.search.evaluation.classes import DEPTH, ClassLists, list_nearest
from imgrec.search.evaluation.engine import StoredVectors, open_subjects
from imgrec.search.evaluation.labels import Labels
from imgrec.search.evaluation.weightings import weighting_of
from imgrec.storage.library import create_library
from tests.search.libraries import VectorLibrary, random_rows


def lists_of(vectors: VectorLibrary, labels: Labels, sample: int = 1_000, among: int = 0) -> ClassLists:
    home = create_library(vectors.root, Path("photos"), ("color",), {})
    subjects = open_subjects(home)
    stored = StoredVectors(vectors.registry, home, subjects)
    return list_nearest(stored, labels, {weighting_of(subjects[0]): DEPTH}, sample, among, seed=0)


@pytest.mark.parametrize("photos", [30, 200])
def test_the_same_numbers_as_the_benchmark(vectors: VectorLibrary, photos: int) -> None:
    rows = random_rows(photos, 8)
    ids = np.array(vectors.add(rows))
    vectors.update()
    codes = np.random.default_rng(0).integers(0, 3, photos).astype(np.int32)
    lists = lists_of(vectors, Labels(ids, codes, ("a", "b", "c")))
    scores = lists.judge(lists.nearest["color"])
    exact = (rows @ rows.T).astype(np.float64)
    names = [str(code) for code in codes]
    np.testing.assert_allclose(scores.precision, precisions(exact, names), atol=1e-9)
    np.testing.assert_allclose(scores.strict, precisions(exact, names, strict=True), atol=1e-9)
    np.fill_diagonal(exact, -np.inf)
    np.testing.assert_array_equal(scores.first, codes[exact.argmax(axis=1)] == codes)


def test_own_copies_are_no_answers_and_what_is_alone_is_left_out(vectors: VectorLibrary) -> None:
    rows = random_rows(6, 8)
    ids = vectors.add(rows)
    copy = vectors.registry.content_hashes([ids[0]])[ids[0]]
    vectors.registry.connection.execute("UPDATE images SET content_hash = ? WHERE id = ?", (copy, ids[1]))
    vectors.update()
    labels = Labels(np.array(ids), np.array([0, 0, 1, 1, 1, 2], np.int32), ("pair of copies", "class", "alone"))
    lists = lists_of(vectors, labels)
    assert lists.queries.tolist() == ids[2:5]
    assert lists.alone == 3  # the copies of each other, and what is alone
    assert lists.relevant.tolist() == [2, 2, 2]

    labels = Labels(np.array(ids), np.array([0, 0, 0, 1, 1, 1], np.int32), ("a", "b"))
    lists = lists_of(vectors, labels)
    assert ids[1] not in lists.nearest["color"][0]
    assert ids[0] not in lists.nearest["color"][1]
    assert lists.relevant.tolist() == [1, 1, 2, 2, 2, 2]


def test_unlabelled_photos_are_not_searched_among_and_a_gallery_has_its_queries(vectors: VectorLibrary) -> None:
    ids = np.array(vectors.add(random_rows(500, 8)))
    vectors.update()
    labels = Labels(ids[:400], np.arange(400, dtype=np.int32) % 4, ("a", "b", "c", "d"))
    lists = lists_of(vectors, labels, sample=20, among=100)
    assert lists.photos == 100
    found = np.unique(lists.nearest["color"])
    assert len(lists.queries) == 20
    assert np.isin(found, ids[:400]).all()
    assert len(found) <= 100
