"""Places of photos that come later, clusters and links: by brute force, or by what has to be so."""

import numpy as np
import pytest

from imgrec.search.map.clusters import default_min_size, describe_clusters, find_clusters, keep_numbers
from imgrec.search.map.embedding import aligned, pca_start
from imgrec.search.map.graph import find_communities, link, to_networkx
from imgrec.search.map.neighbours import NOBODY, Neighbours, finder_among
from imgrec.search.map.placing import near_on_map, placed_at, voted, weights_of
from tests.search.libraries import random_rows


def test_weights_are_umaps_own() -> None:
    distances = np.sort(np.random.default_rng(0).random((20, 15)).astype(np.float32), axis=1)
    weights = weights_of(distances, np.ones_like(distances, bool))
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (np.diff(weights, axis=1) <= 1e-7).all()
    raw = weights / weights[:, :1]  # memberships: the nearest has 1
    np.testing.assert_allclose(raw.sum(axis=1), np.log2(15), rtol=1e-3)


def test_a_photo_between_two_lies_between_them() -> None:
    known, ids = random_rows(30, 8), np.arange(30) + 100
    find = finder_among([(ids, known)], 8)
    between = known[3] + known[7]
    between = (between / np.linalg.norm(between))[np.newaxis]
    near, distances = near_on_map(find, [(np.array([500]), between)], np.array([500]), ids, 2)
    assert set(near[0]) == {3, 7}
    places = np.random.default_rng(1).random((30, 2)).astype(np.float32)
    weights = weights_of(distances, near != NOBODY)
    np.testing.assert_allclose(placed_at(near, weights, places)[0], (places[3] + places[7]) / 2, atol=1e-3)
    same, distances = near_on_map(find, [(np.array([500]), known[:1])], np.array([500]), ids, 5)
    assert placed_at(same, weights_of(distances, same != NOBODY), places)[0] @ places[0] > 0


def test_labels_are_voted_by_weight() -> None:
    labels = np.array([4, 4, 9, -1], np.int32)
    near = np.array([[0, 1, 2], [2, 0, 1], [3, NOBODY, NOBODY], [NOBODY] * 3])
    weights = np.array([[0.2, 0.2, 0.6], [0.4, 0.3, 0.3], [1, 0, 0], [0, 0, 0]], np.float32)
    assert voted(near, weights, labels).tolist() == [9, 4, -1, -1]
    assert placed_at(near, weights, np.eye(4, 2, dtype=np.float32))[3].tolist() == [0.25, 0.25]  # the middle


def test_a_refit_is_turned_back_to_where_it_was() -> None:
    random = np.random.default_rng(0)
    old = random.random((200, 3)).astype(np.float32)
    turn, _ = np.linalg.qr(random.standard_normal((3, 3)))
    new = 7 * (old @ turn) + 3
    known = np.arange(200) < 150
    np.testing.assert_allclose(aligned(new.astype(np.float32), old[known], known), old, atol=1e-4)


def test_the_axes_are_those_of_a_pca() -> None:
    rows = np.random.default_rng(0).standard_normal((500, 20)) * np.array([9, 5, 3, *[1] * 17])
    mean, axes = pca_start(rows.astype(np.float32), 3)
    exact = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[2][:3]
    np.testing.assert_allclose(np.abs(np.sum(exact.T * axes, axis=0)), 1, atol=1e-3)
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-4)


def test_clusters_are_the_blobs_that_were_made() -> None:
    random = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10]])
    truth = np.repeat([0, 1, 2], [100, 60, 30])
    places = (centres[truth] + 0.3 * random.standard_normal((190, 2))).astype(np.float32)
    labels = find_clusters(places, 10)
    assert [len(set(truth[labels == number])) for number in range(3)] == [1, 1, 1]
    assert np.bincount(labels[labels >= 0]).tolist() == sorted(np.bincount(labels[labels >= 0]), reverse=True)
    assert (labels >= 0).mean() > 0.8
    assert set(find_clusters(places[:5], 10)) == {-1}
    vectors = random_rows(190, 8)
    vectors[100:160] = vectors[130] + 0.05 * vectors[100:160]
    ids = np.arange(190) + 1000
    described = describe_clusters(ids, places, labels, lambda some: [(some, vectors[some - 1000])])
    assert [cluster.size for cluster in described] == np.bincount(labels[labels >= 0]).tolist()
    assert all(labels[cluster.medoid - 1000] == cluster.number for cluster in described)
    second = described[1]
    middle = vectors[labels == 1].mean(axis=0)
    assert vectors[second.medoid - 1000] @ middle > np.quantile(vectors[labels == 1] @ middle, 0.9)
    assert default_min_size(100) == 5
    assert default_min_size(40_000) == 100


def test_clusters_keep_their_numbers() -> None:
    before = np.array([3, 3, 3, 1, 1, -1, 0, 0], np.int32)
    now = np.array([0, 0, 2, 1, 1, 1, -1, 5], np.int32)
    assert keep_numbers(now, before).tolist() == [3, 3, 4, 1, 1, 1, -1, 0]
    assert keep_numbers(before, before).tolist() == before.tolist()


def test_links_are_between_those_that_are_alike_enough() -> None:
    places = np.array([[0, 1, 2], [1, 0, 2], [2, 1, NOBODY], [3, 2, NOBODY]])
    distances = np.array([[0, 0.1, 0.2], [0, 0.1, 0.6], [0, 0.6, 0.6], [0, 0.9, 0.9]], np.float32)
    neighbours = Neighbours(places, distances, np.array([0, 1, 2, 3, 3]), np.array([0, 1, 2, 3]))
    ids = np.array([10, 20, 30, 40, 50])
    links = link(neighbours, ids, 0.3)
    assert list(zip(links.source.tolist(), links.target.tolist(), strict=True)) == [(10, 20), (10, 30), (20, 30)]
    np.testing.assert_allclose(links.similarity, [0.9, 0.8, 0.4], atol=1e-6)
    assert to_networkx(links).number_of_edges() == 3
    assert find_communities(links, ids, 0).tolist() == [0, 0, 0, -1, -1]
    assert link(neighbours, ids).threshold == pytest.approx(0.6)  # the median of neighbours that are known
    assert len(link(neighbours, ids, 0.99).source) == 0
    assert find_communities(link(neighbours, ids, 0.99), ids, 0).tolist() == [-1] * 5
