"""An index that a library has from before is searched, so every ingest keeps it in step."""

from pathlib import Path

import pytest

from imgrec.search import Searcher
from imgrec.search.indexes.layout import IndexFolder, list_indexes
from tests.flows.conftest import Imgrec
from tests.plain import build, ingest

OLD = "combo_color_sift"


@pytest.fixture
def grown(photos: Path, library: Path) -> Path:
    """A library of colours and patterns that has learnt to see, so that its default combination is another one."""
    ingest(photos, library, ["color", "sift"])
    ingest(library=library, modalities=["efficientnet"])
    return library


def paths(library: Path, index: str) -> set[str]:
    with Searcher(library, index=index) as searcher:
        return {hit.path for hit in searcher.search(["id:1"])[0].hits}


def test_deleted_photos_leave_the_combination_from_before_too(grown: Path, photos: Path, imgrec: Imgrec) -> None:
    for name in sorted(path.name for path in photos.iterdir())[2:4]:
        (photos / name).unlink()
    report = ingest(library=grown)
    left = {path.name for path in photos.iterdir()}
    assert list(report.indexes) == ["color", "sift", "efficientnet", "combo_color_sift_efficientnet", OLD]
    assert {name: paths(grown, name) for name in list_indexes(grown / "indexes")} == dict.fromkeys(
        list_indexes(grown / "indexes"), left
    )
    assert imgrec("doctor", "--library", grown).code == 0


def test_an_index_that_is_named_leaves_no_other_behind(grown: Path, photos: Path) -> None:
    before = {name: IndexFolder(grown / "indexes", name).current_version() for name in list_indexes(grown / "indexes")}
    sorted(photos.iterdir())[3].unlink()
    report = ingest(library=grown, indexes=["combo_color_efficientnet"])
    assert set(report.indexes) == {"combo_color_efficientnet", *before}
    assert {manifest.manifest.live for manifest in report.indexes.values()} == {5}
    built = build(grown, ["color"], rebuild=True, hnsw_m=16)
    assert {name: report.action for name, report in built.indexes.items()} == {
        "color": "built", **dict.fromkeys({*report.indexes} - {"color"}, "unchanged"),
    }  # fmt: skip


@pytest.mark.parametrize("pointer", ["nonsense", "", None])
def test_the_pointer_of_an_old_index_is_mended(grown: Path, imgrec: Imgrec, pointer: str | None) -> None:
    folder = IndexFolder(grown / "indexes", OLD)
    folder.pointer.unlink() if pointer is None else folder.pointer.write_text(pointer)
    (grown / "indexes" / "no_index").mkdir()  # somebody's own
    assert ingest(library=grown).indexes[OLD].manifest.live == 6
    assert folder.read_manifest().live == 6
    assert imgrec("doctor", "--library", grown).code == 0
