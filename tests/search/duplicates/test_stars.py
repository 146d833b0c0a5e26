"""Groups of near copies, on made pairs and rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imgrec.search.duplicates.stars import centrality, stars


def make_stars(count: int, near: dict[tuple[int, int], float]) -> list[int]:
    pairs = np.array(list(near), np.int64).reshape(-1, 2)
    scores = np.array(list(near.values()), np.float32)
    return [int(centre) for centre in stars(centrality(count, pairs, scores), pairs, scores)]


def test_a_chain_is_no_group() -> None:
    """0 is like 1, 1 like 2, and so on to 6, which is nothing like 0."""
    centres = make_stars(7, {(i, i + 1): 0.9 + i / 1_000 for i in range(6)})

    groups = [np.flatnonzero(np.array(centres) == centre).tolist() for centre in set(centres)]
    assert max(map(len, groups)) == 3
    assert all(members[-1] - members[0] <= 2 for members in groups)


def test_who_is_near_two_centres_joins_the_nearer_one() -> None:
    near = {(0, 1): 0.95, (0, 2): 0.95, (2, 3): 0.99, (3, 4): 0.98, (3, 5): 0.98}

    assert make_stars(6, near) == [0, 0, 3, 3, 3, 3]


def test_the_most_central_is_the_centre() -> None:
    assert make_stars(5, {(1, 3): 0.9, (2, 3): 0.9, (3, 4): 0.9}) == [0, 3, 3, 3, 3]


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.floats(0.5, 1)), max_size=40))
def test_stars_of_any_graph(edges: list[tuple[int, int, float]]) -> None:
    near = {(min(a, b), max(a, b)): score for a, b, score in edges if a != b}
    centres = make_stars(12, near)

    chosen = {node for node in range(12) if centres[node] == node}
    assert not any({a, b} <= chosen for a, b in near)  # centres are apart
    for node, centre in enumerate(centres):
        if node != centre:
            score = near[min(node, centre), max(node, centre)]  # a neighbour of its centre
            others = [near.get((min(node, other), max(node, other)), 0.0) for other in chosen]
            assert np.isclose(score, max(others))  # and the nearest one
