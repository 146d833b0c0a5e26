"""k-reciprocal re-ranking: as the paper has it, and what it is for."""

import numpy as np

from imgrec.search.reranking import Similarities, expanded_order
from tests.search.libraries import random_rows, unit_rows


def by_the_paper(similarities: Similarities, k1: int, k2: int, own_share: float) -> list[int]:
    """Zhong et al., one set and one sum at a time."""
    count = len(similarities)
    distances = np.clip(2 - 2 * similarities, 0, None)
    ranked = [np.argsort(row, kind="stable").tolist() for row in distances]

    def reciprocal(photo: int, k: int) -> set[int]:
        return {other for other in ranked[photo][: k + 1] if photo in ranked[other][: k + 1]}

    weights = np.zeros((count, count))
    for photo in range(count):
        members = own = reciprocal(photo, k1)
        for other in own:
            closer = reciprocal(other, round(k1 / 2))
            if len(closer & own) >= 2 / 3 * len(closer):
                members = members | closer
        for other in members:
            weights[photo, other] = np.exp(-distances[photo, other])
        weights[photo] /= weights[photo].sum()
    mean = [weights[ranked[photo][:k2]].mean(axis=0) for photo in range(count)]
    jaccard = [1 - np.minimum(mean[0], row).sum() / np.maximum(mean[0], row).sum() for row in mean]
    mixed = (1 - own_share) * np.array(jaccard) + own_share * distances[0] / distances[0].max()
    return [int(place) for place in np.argsort(mixed[1:], kind="stable")]


def test_the_order_is_the_papers() -> None:
    for seed, (k1, k2) in enumerate([(20, 6), (5, 1), (8, 3)]):
        rows = random_rows(60, 6, seed)
        similarities = rows @ rows.T
        assert expanded_order(similarities, k1, k2, 0.3).tolist() == by_the_paper(similarities, k1, k2, 0.3)


def test_a_photo_that_is_the_querys_neighbours_neighbour_comes_before_a_hub_of_others() -> None:
    angles = np.array([0, 10, 20, 30, 40, -36, -38, -40, -42, -44, -46, -48]) * np.pi / 180
    rows = unit_rows(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    similarities = rows @ rows.T
    plain = np.argsort(-similarities[0, 1:], kind="stable")
    assert plain.tolist()[:4] == [0, 1, 2, 4]  # the first of the hub comes before the last of the query's chain
    assert expanded_order(similarities, k1=4, k2=2).tolist()[:4] == [0, 1, 2, 3]


def test_short_lists_keep_their_order() -> None:
    assert expanded_order(np.ones((1, 1), np.float32)).tolist() == []
    assert expanded_order(np.array([[1, 0.5], [0.5, 1]], np.float32)).tolist() == [0]
    assert sorted(expanded_order(np.ones((9, 9), np.float32)).tolist()) == list(range(8))
