"""An index is called by its modalities: in any order by whoever names it, and in one by us."""

import json
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgrec.search import Searcher
from imgrec.search.errors import IndexNotFoundError
from imgrec.search.fusion import default_indexes, index_modalities, indexes_in_step
from imgrec.search.indexes.layout import IndexFolder, list_indexes
from imgrec.search.names import by_preference, canonical_name, combined_name, is_index_name, stored_name
from imgrec.search.upkeep.backup import back_up
from imgrec.search.upkeep.doctor import examine
from imgrec.search.upkeep.dropping import drop_indexes
from imgrec.storage.library import Library, create_library
from imgrec.storage.registry.index_rows import index_names
from imgrec.storage.registry.registry import Registry
from tests.search.libraries import PARAMETERS, ingest

ORDERS = ["combo_" + "_".join(order) for order in permutations(["color", "sift", "efficientnet"])]
SHOWN, ON_DISK = "combo_color_sift_efficientnet", "combo_color_efficientnet_sift"
# No names: paths, other letters, an empty part, a modality twice.
NO_NAMES = [
    "../../elsewhere", "..", ".", "", "/etc", "color/versions", "color\\versions", "Color", "combo_", "combo__sift",
    "combo_color_color", "color_sift", "combo_color_sift\n", "combo_../color", "color\0",
]  # fmt: skip

# A modality's name as imgrec.storage.names has it; `combo` alone is one too.
modalities = st.lists(st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True), min_size=1, max_size=5, unique=True)


@given(st.data(), modalities)
def test_any_order_names_the_same_index(data: st.DataObject, names: list[str]) -> None:
    one, other = combined_name(names), "combo_" + "_".join(data.draw(st.permutations(names)))
    assert canonical_name(other) == canonical_name(one) == one
    assert stored_name(other) == stored_name(one) == "combo_" + "_".join(sorted(names))
    assert is_index_name(stored_name(one))


def test_colour_and_sift_come_first_then_the_learned_ones_by_the_alphabet() -> None:
    assert combined_name(["sift", "openclip", "dreamsim", "color"]) == "combo_color_sift_dreamsim_openclip"
    assert canonical_name("combo_dreamsim_sift_color") == "combo_color_sift_dreamsim"
    assert canonical_name("openclip") == "openclip"
    assert default_indexes(["efficientnet", "sift", "color"])[-1] == SHOWN


def test_every_order_is_understood_where_indexes_are_chosen() -> None:
    known = ["color", "sift", "efficientnet"]
    assert len({tuple(index_modalities(name, known).items()) for name in ORDERS}) == 1
    for name in ORDERS:
        assert indexes_in_step(known, ["color", SHOWN], [name, "color"]) == [SHOWN, "color"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    for function in (canonical_name, stored_name, lambda name: IndexFolder(tmp_path, name)):
        with pytest.raises(IndexNotFoundError, match="no index '"):
            function(name)
    assert not is_index_name(name)


def test_most_modalities_are_searched_and_alone_what_knows_most() -> None:
    longest = "combo_color_verylongname"
    assert by_preference(["color", longest, "combo_color_sift_vit", "sift"])[0] == "combo_color_sift_vit"
    assert by_preference(["color", "combo_color_sift", longest])[0] == longest
    assert by_preference(["sift", "color", "vit"]) == ["vit", "sift", "color"]
    assert by_preference([]) == []


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """A library of three modalities as it was made when people were shown the names of folders."""
    home = tmp_path_factory.mktemp("old")
    (home / "photos").mkdir()
    for number in range(4):
        Image.effect_noise((90, 70), 40 + 40 * number).save(home / "photos" / f"{number}.png")
    settings = {"bins": [2, 2, 2], "decode_min_side": 64, "sift_codebook": "default"}
    library = create_library(home / "library", home / "photos", ("color", "sift", "efficientnet"), settings)
    ingest(library)
    (manifest,) = library.indexes_dir.glob(f"{ON_DISK}/versions/*/manifest.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_bytes()), "name": ON_DISK}))
    return library


def rows_of(library: Library) -> list[str]:
    with Registry.open_for_reading(library.registry_path) as registry:
        return sorted(index_names(registry))


def test_an_old_library_is_searched_and_goes_on_without_a_rebuild(old: Library) -> None:
    before = {path: path.stat().st_mtime_ns for path in old.indexes_dir.rglob("*") if path.is_file()}
    assert list_indexes(old.indexes_dir) == ["color", SHOWN, "efficientnet", "sift"]
    assert rows_of(old) == ["color", ON_DISK, "efficientnet", "sift"]
    found = []
    for name in (None, *ORDERS):
        with Searcher(old.root, name) as searcher:
            (answer,) = searcher.search(["id:1"])
            found.append([(hit.id, hit.score) for hit in answer.hits])
            assert (searcher.index, answer.index) == (SHOWN, SHOWN)
            assert list(answer.hits[0].scores) == ["color", "sift", "efficientnet"]
    assert found.count(found[0]) == 7
    best_id, best_score = found[0][0]
    assert best_id == 1
    assert best_score == pytest.approx(1, abs=1e-5)

    ingest(old)

    assert {path: path.stat().st_mtime_ns for path in old.indexes_dir.rglob("*") if path.is_file()} == before
    assert examine(old.root, PARAMETERS, thorough=True) == []


def test_its_backup_is_sound_and_called_the_same(old: Library, tmp_path: Path) -> None:
    back_up(old.root, tmp_path / "copy", PARAMETERS)
    assert sorted(path.name for path in (tmp_path / "copy" / "indexes").iterdir()) == rows_of(old)
    with Searcher(tmp_path / "copy", "combo_sift_efficientnet_color") as searcher:
        assert len(searcher.search(["id:1"])[0].hits) == 4


@pytest.mark.parametrize("name", ["../../elsewhere", "nose", "..", "combo_color_openclip"])
def test_an_index_that_is_not_there_is_told_with_those_that_are(old: Library, name: str) -> None:
    there = "there are color, combo_color_sift_efficientnet, efficientnet, sift$"
    with pytest.raises(IndexNotFoundError, match=there) as told:
        Searcher(old.root, name)
    assert "\n" not in str(told.value)
    with pytest.raises(IndexNotFoundError, match=there):
        drop_indexes(old.root, ["sift", name])


def test_a_path_opens_no_index_of_another_library(old: Library, tmp_path: Path) -> None:
    other = create_library(tmp_path / "library", Path(old.images_root), ("color",), old.vector_settings)
    ingest(other)
    with pytest.raises(IndexNotFoundError, match=r"there are color$"):
        Searcher(other.root, f"../../{old.root.parent.name}/library/indexes/sift")
    with pytest.raises(IndexNotFoundError, match=r"there are color$"):
        Searcher(other.root, str(old.indexes_dir / "color"))


def test_a_default_that_is_damaged_is_passed_over_with_a_warning(
    old: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    back_up(old.root, tmp_path / "copy", PARAMETERS)
    indexes_dir = tmp_path / "copy" / "indexes"
    for worst, next_best in [(SHOWN, "efficientnet"), ("efficientnet", "sift"), ("sift", "color")]:
        for segment in IndexFolder(indexes_dir, worst).root.glob("segments/*/*.faiss"):
            segment.unlink()
        with Searcher(tmp_path / "copy") as searcher:
            assert searcher.index == next_best
            assert searcher.search(["id:1"])[0].hits[0].id == 1
        assert f"index {worst} is damaged, and {next_best} searched instead: segment " in caplog.text


def test_a_folder_and_rows_that_are_no_indexs_are_found_and_in_nobodys_way(old: Library, tmp_path: Path) -> None:
    back_up(old.root, tmp_path / "copy", PARAMETERS)
    stranger = tmp_path / "copy" / "indexes" / "My old index"
    (stranger / "segments").mkdir(parents=True)
    with Registry.open_for_writing(tmp_path / "copy" / "registry.sqlite") as registry:
        registry.connection.execute("INSERT INTO index_rows VALUES ('My old index', 'x', 0, 1)")
    found = [diagnosis.finding.check for diagnosis in examine(tmp_path / "copy", PARAMETERS)]
    assert found == ["index.pointer", "index.rows"]
    left = [d.finding for d in examine(tmp_path / "copy", PARAMETERS, fix=True) if not d.fixed]
    assert [finding.remedy for finding in left] == ["remove that folder"]
    assert list_indexes(stranger.parent) == list_indexes(old.indexes_dir)
