"""Recall, latency and throughput of indexes against exact search."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgrec.search.evaluation import searching
from imgrec.search.evaluation.engine import StoredVectors, open_subjects
from imgrec.search.evaluation.errors import EvaluationError
from imgrec.search.evaluation.searching import SearchQuality, measure_searching
from imgrec.search.indexes.rescoring import SPARE
from imgrec.storage.library import create_library
from tests.search.libraries import PARAMETERS, VectorLibrary, random_rows


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "THROUGHPUT_S", 0.01)


def measure(vectors: VectorLibrary, sample: int = 100, k: int = 10, ef_search: int | None = None) -> SearchQuality:
    home = create_library(vectors.root, Path("photos"), ("color",), {})
    subjects = open_subjects(home, (), ef_search)
    (found,) = measure_searching(StoredVectors(vectors.registry, home, subjects), subjects, sample, k, seed=0)
    return found


def test_a_good_graph_finds_all_and_a_bad_one_what_brute_force_says(vectors: VectorLibrary) -> None:
    rows = random_rows(3_000, 8)
    ids = np.array(vectors.add(rows))
    vectors.update(replace(PARAMETERS, hnsw_m=4, ef_construction=8))
    found = measure(vectors, sample=3_000, ef_search=1)

    exact = rows @ rows.T
    np.fill_diagonal(exact, -np.inf)
    floor = -np.sort(-exact, axis=1)[:, 9]
    (subject,) = open_subjects(create_library(vectors.root, Path("photos"), ("color",), {}), (), 1)
    hits = subject.answers(rows, ids, 10 + SPARE, 1)
    scores = -np.sort(-np.take_along_axis(exact, np.searchsorted(ids, hits), axis=1), axis=1)[:, :10]
    assert found.recall == pytest.approx(float((scores >= floor[:, None] - 2e-6).mean()))
    assert found.recall < 0.97
    assert found.sweep[-1].recall > found.recall
    assert [point.ef_search for point in found.sweep] == [1, 16, 32, 64, 128, 256, 512]
    assert (found.photos, found.queries, found.k, found.behind) == (3_000, 3_000, 10, 0)
    assert 0 < found.one_thread.p50_ms <= found.one_thread.p95_ms <= found.one_thread.p99_ms
    assert found.one_thread.queries_per_s > 0 < found.all_threads.queries_per_s


def test_equal_photos_may_come_in_any_order_and_none_answers_itself(vectors: VectorLibrary) -> None:
    vectors.add(np.repeat(random_rows(30, 8), 20, axis=0))  # twenty of each: no ten of them are truer than others
    vectors.update()
    assert measure(vectors).recall == 1.0


def test_photos_that_the_index_lacks_are_missed_and_told(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(200, 8))
    vectors.update()
    vectors.add(random_rows(200, 8, seed=1))
    found = measure(vectors, sample=400)
    assert (found.photos, found.behind) == (400, 200)
    assert found.recall < 0.7


def test_deleted_photos_that_the_index_still_has_are_wrong_hits(vectors: VectorLibrary) -> None:
    ids = vectors.add(random_rows(400, 8))
    vectors.update()
    vectors.mark(ids[:200], missing=True)
    found = measure(vectors, sample=400)
    assert (found.photos, found.queries, found.behind) == (200, 200, 200)
    assert 0.3 < found.recall < 0.9  # half of what it shows is gone, and 16 are looked at for 10


def test_fewer_photos_than_neighbours(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(4, 8))
    vectors.update()
    found = measure(vectors)
    assert (found.k, found.recall) == (3, 1.0)


def test_a_library_without_an_index_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no index in .*imgrec ingest"):
        open_subjects(create_library(tmp_path, tmp_path, ("color",), {}))
