"""Weights that a search asks for are those of a combination made with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgrec.embedders.catalogue import create_embedders
from imgrec.search import Hit, Searcher
from imgrec.search.errors import QueryError
from imgrec.search.fusion import index_members
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.updating import update_index
from imgrec.search.weights import parse_weights, weights_of
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry
from tests.search.conftest import make_library
from tests.search.libraries import PARAMETERS


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return make_library(tmp_path_factory.mktemp("two"), ("color", "sift"))


WEIGHTS = [{"color": 1.0, "sift": 3.0}, {"color": 0.9, "sift": 0.1}, {"sift": 1.0}, {"color": 2.0}]
NONE = ["", "color", "color=", "=1", "color=x", "color=-1", "color=0", "color=nan", "color=inf", "color=1,color=2"]


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("color=1,sift=0.5", {"color": 1.0, "sift": 0.5}),
        (" sift = 2 ", {"sift": 2.0}),
        ("color=0,sift=1,", {"color": 0.0, "sift": 1.0}),
    ],
)
def test_weights_are_read(text: str, weights: dict[str, float]) -> None:
    assert parse_weights(text) == weights


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_weight_is_refused_by_name(text: str) -> None:
    with pytest.raises(QueryError, match="weight"):
        parse_weights(text)


def test_a_modality_that_the_index_has_not_is_named_with_the_remedy() -> None:
    with pytest.raises(QueryError, match=r"dreamsim, which this index has not.*combo_color_sift_dreamsim"):
        weights_of({"dreamsim": 1}, ["color", "sift"], ["color", "sift", "dreamsim"])
    with pytest.raises(QueryError, match=r"weights for colr, which this library has not: it has color, sift"):
        weights_of({"colr": 1}, ["color", "sift"], ["color", "sift"])


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("query", ["id:1", "id:3", "file"])
def test_a_score_is_the_weighted_mean_of_the_cosines_and_the_best_are_found(
    two: Library, weights: dict[str, float], query: str
) -> None:
    asked = min(Path(two.images_root).glob("*.png")) if query == "file" else query
    shares = {name: weights.get(name, 0.0) / sum(weights.values()) for name in two.modalities}
    with Searcher(two.root, "combo_color_sift") as searcher:
        (answer,) = searcher.search([asked], 5, weights=weights)
        (everything,) = searcher.search([asked], 1_000)
    best = sorted((weighted(hit, shares) for hit in everything.hits), reverse=True)[:5]
    assert [weighted(hit, shares) for hit in answer.hits] == pytest.approx(best, abs=1e-5)
    assert [hit.score for hit in answer.hits] == pytest.approx(best, abs=1e-5)


def test_a_combination_built_with_weights_answers_the_same(two: Library) -> None:
    """The same rows, scaled at building instead of at searching."""
    embedders = create_embedders(two.modalities, two.vector_settings, two.models_dir)
    usual = index_members("combo_color_sift", {name: embedder.spec for name, embedder in embedders.items()})
    weights = {"color": 0.8, "sift": 0.2}
    members = tuple(replace(member, weight=weights[member.modality]) for member in usual)
    queries = ["id:1", "id:3", "id:4"]
    with Searcher(two.root, "combo_color_sift") as searcher:
        asked = searcher.search(queries, 5, weights=weights)
    folder = IndexFolder(two.indexes_dir, "combo_color_sift")
    with Registry.open_for_writing(two.registry_path) as registry:
        update_index(registry, two.shards_dir, folder, members, two.vector_settings, PARAMETERS)
    with Searcher(two.root, "combo_color_sift") as searcher:
        made = searcher.search(queries, 5)
    for one, other in zip(asked, made, strict=True):
        assert [hit.id for hit in one.hits] == [hit.id for hit in other.hits]
        assert [hit.score for hit in one.hits] == pytest.approx([hit.score for hit in other.hits], abs=1e-5)


def test_a_query_without_what_counts_is_told(two: Library) -> None:
    plain = np.full((64, 64, 3), 200, np.uint8)  # nothing for sift
    with Searcher(two.root, "combo_color_sift") as searcher, pytest.raises(QueryError, match="no sift"):
        searcher.search([plain], 5, weights={"sift": 1})


def weighted(hit: Hit, shares: dict[str, float]) -> float:
    return sum(share * (hit.scores[name] or 0.0) for name, share in shares.items())
