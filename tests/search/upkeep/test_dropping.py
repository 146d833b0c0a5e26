"""An index that is dropped is gone, and nothing else is."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from imgrec.search import Searcher
from imgrec.search.errors import IndexNotFoundError
from imgrec.search.indexes.layout import IndexFolder, list_indexes
from imgrec.search.upkeep.doctor import examine
from imgrec.search.upkeep.dropping import drop_indexes
from imgrec.storage.errors import LibraryLockedError
from imgrec.storage.library import Library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.registry.index_rows import index_names
from imgrec.storage.registry.registry import Registry
from tests.search.conftest import make_library
from tests.search.libraries import PARAMETERS, ingest

BOTH = ["color", "combo_color_sift", "sift"]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = make_library(tmp_path_factory.mktemp("pristine")).with_modalities(("color", "sift"))
    ingest(library)
    assert list_indexes(library.indexes_dir) == BOTH
    return library


@pytest.fixture
def library(pristine: Library, tmp_path: Path) -> Library:
    return replace(pristine, root=Path(shutil.copytree(pristine.root, tmp_path / "library")))


def indexes_with_rows(library: Library) -> list[str]:
    with Registry.open_for_writing(library.registry_path) as registry:
        return sorted(index_names(registry))


def test_it_is_gone_with_its_rows_and_the_library_is_well(library: Library) -> None:
    root = IndexFolder(library.indexes_dir, "combo_color_sift").root
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert drop_indexes(library.root, ["combo_color_sift"]) == size > 0
    assert not root.exists()
    assert indexes_with_rows(library) == ["color", "sift"]
    assert examine(library.root, PARAMETERS) == []
    with Searcher(library.root, "sift") as searcher:
        assert searcher.search(["id:1"])[0].hits


def test_it_can_be_built_again(library: Library) -> None:
    drop_indexes(library.root, ["sift", "combo_color_sift", "sift"])
    ingest(library)
    assert list_indexes(library.indexes_dir) == indexes_with_rows(library) == BOTH


def test_a_search_that_has_it_open_goes_on(library: Library) -> None:
    with Searcher(library.root, "sift") as searcher:
        before = searcher.search(["id:1"])[0].hits
        drop_indexes(library.root, ["sift"])
        assert searcher.search(["id:1"])[0].hits == before
    with pytest.raises(IndexNotFoundError, match="sift"):
        Searcher(library.root, "sift")


def test_a_damaged_one_can_be_dropped(library: Library) -> None:
    folder = IndexFolder(library.indexes_dir, "sift")
    folder.pointer.unlink()
    for version in folder.versions():
        folder.manifest_path(version).unlink()
    drop_indexes(library.root, ["sift"])
    assert not folder.root.exists()


@pytest.mark.parametrize("name", ["dreamsim", "..", ".", "", "color/versions"])
def test_one_that_is_not_there_is_told_and_all_others_stay(library: Library, name: str) -> None:
    with pytest.raises(IndexNotFoundError, match="there are color, combo_color_sift, sift"):
        drop_indexes(library.root, ["sift", name])
    assert list_indexes(library.indexes_dir) == BOTH


def test_it_waits_for_no_ingest(library: Library) -> None:
    with writer_lock(library.root), pytest.raises(LibraryLockedError):
        drop_indexes(library.root, ["sift"])
    assert list_indexes(library.indexes_dir) == BOTH
