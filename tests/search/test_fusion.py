"""Combined indexes: names, weights, scores."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.pictures import real_pictures
from imgrec.search.errors import IndexNotFoundError, QueryError
from imgrec.search.fusion import combine, default_indexes, index_modalities
from imgrec.search.indexes.layout import IndexFolder, Member
from imgrec.search.searcher import Searcher
from imgrec.storage.library import Library, create_library
from imgrec.storage.registry.registry import Registry
from tests.search.libraries import PARAMETERS, ingest


@given(st.integers(0, 2**32), st.floats(0.05, 0.95))
def test_the_product_of_combined_rows_is_the_weighted_mean_of_cosines(seed: int, weight: float) -> None:
    random = np.random.default_rng(seed)
    members = [Member("color", "c", 7, weight), Member("sift", "s", 11, 1 - weight)]
    rows = {name: random.standard_normal((2, dim)).astype(np.float32) for name, dim in (("color", 7), ("sift", 11))}
    for values in rows.values():
        values /= np.linalg.norm(values, axis=1, keepdims=True)
    one, other = combine(members, rows)
    expected = weight * rows["color"][0] @ rows["color"][1] + (1 - weight) * rows["sift"][0] @ rows["sift"][1]
    assert one @ other == pytest.approx(expected, abs=1e-5)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)


def test_an_index_has_the_weights_of_its_modalities_and_they_sum_to_one() -> None:
    assert default_indexes(["color"]) == ["color"]
    assert default_indexes(["color", "sift"]) == ["color", "sift", "combo_color_sift"]
    assert index_modalities("sift", ["color", "sift"]) == {"sift": 1.0}
    weights = index_modalities("combo_color_sift", ["color", "sift"])
    assert list(weights) == ["color", "sift"]
    assert sum(weights.values()) == pytest.approx(1)


def test_beside_a_model_the_others_count_less() -> None:
    known = ["color", "sift", "efficientnet"]
    alone = index_modalities("combo_color_sift", known)
    beside = index_modalities("combo_color_efficientnet_sift", known)
    assert list(beside) == ["color", "efficientnet", "sift"]
    assert sum(beside.values()) == pytest.approx(1)
    assert beside["efficientnet"] > beside["sift"] > beside["color"]
    assert beside["color"] / beside["sift"] < alone["color"] / alone["sift"]


@pytest.mark.parametrize("name", ["smell", "combo_color_smell", "combo_color_color", "combo_", "../color"])
def test_an_index_of_what_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(IndexNotFoundError, match="there are color, sift, combo_color_sift"):
        index_modalities(name, ["color", "sift"])


@pytest.fixture(scope="module")
def combined(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """A library of pictures with all three indexes; `plain.png` has no keypoint."""
    home = tmp_path_factory.mktemp("combined")
    photos = home / "photos"
    photos.mkdir()
    for path in real_pictures()[:8]:
        (photos / path.name).write_bytes(path.read_bytes())
    Image.new("RGB", (300, 200), "teal").save(photos / "plain.png")
    settings = {"bins": [8, 8, 8], "decode_min_side": 448, "sift_codebook": "default"}
    library = create_library(home / "library", photos, ("color", "sift"), settings)
    ingest(library)
    return library


def test_scores_are_the_weighted_mean_of_their_parts(combined: Library) -> None:
    weights = index_modalities("combo_color_sift", combined.modalities)
    photo = Path(combined.images_root) / "chelsea.png"
    with Searcher(combined.root) as searcher:
        assert searcher.index == "combo_color_sift"
        for answer in searcher.search([photo, "id:1"], top_k=9):
            assert len(answer.hits) == 9
            assert answer.hits[0].score == pytest.approx(1, abs=1e-5)
            for hit in answer.hits:
                parts = {name: 0.0 if score is None else score for name, score in hit.scores.items()}
                assert hit.score == pytest.approx(sum(weights[name] * parts[name] for name in weights), abs=1e-5)


def test_a_picture_without_keypoints_is_found_by_its_colours(combined: Library) -> None:
    plain = Path(combined.images_root) / "plain.png"
    with Searcher(combined.root) as searcher:
        (answer,) = searcher.search([plain], top_k=3)
    assert answer.hits[0].path == "plain.png"
    assert answer.hits[0].scores == {"color": pytest.approx(1, abs=1e-5), "sift": None}
    for hit in answer.hits:  # what the query has not is weighed out
        assert hit.score == pytest.approx(hit.scores["color"], abs=1e-5)
    with Searcher(combined.root, "sift") as searcher, pytest.raises(QueryError, match="finds nothing in this picture"):
        searcher.search([plain])
    with Registry.open_for_reading(combined.registry_path) as registry:
        assert registry.count_failures() == {}
        (row,) = registry.connection.execute("SELECT status FROM vector_failures").fetchall()
    assert row == ("no_features",)


def test_what_a_hit_alone_lacks_counts_as_nothing_in_common(combined: Library) -> None:
    weights = index_modalities("combo_color_sift", combined.modalities)
    with Searcher(combined.root) as searcher:
        (answer,) = searcher.search([Path(combined.images_root) / "chelsea.png"], top_k=9)
    (hit,) = (hit for hit in answer.hits if hit.path == "plain.png")
    assert hit.scores["sift"] is None
    assert hit.scores["color"] is not None
    assert hit.score == pytest.approx(weights["color"] * hit.scores["color"], abs=1e-5)


def test_every_picture_scores_1_against_itself(combined: Library) -> None:
    with Searcher(combined.root) as searcher:
        for answer in searcher.search([f"id:{number}" for number in range(1, 10)], top_k=1):
            assert answer.hits[0].file == answer.file
            assert answer.hits[0].score == pytest.approx(1, abs=1e-5)


def test_other_modalities_are_scored_on_request(combined: Library) -> None:
    photo = Path(combined.images_root) / "chelsea.png"
    with Searcher(combined.root, "color") as searcher:
        assert set(searcher.search([photo])[0].hits[0].scores) == {"color"}
        assert set(searcher.search([photo], all_scores=True)[0].hits[0].scores) == {"color", "sift"}
        assert set(searcher.search(["id:1"])[0].hits[0].scores) == {"color", "sift"}


def test_every_index_knows_its_members(combined: Library) -> None:
    manifest = IndexFolder(combined.indexes_dir, "combo_color_sift").read_manifest()
    assert [member.modality for member in manifest.members] == ["color", "sift"]
    assert manifest.live == 9
    assert IndexFolder(combined.indexes_dir, "sift").read_manifest().live == 8
    assert PARAMETERS.hnsw_m == manifest.parameters["hnsw_m"]
