"""An index that a library has from before is searched, so every ingest keeps it in step."""

from pathlib import Path

import numpy as np
import pytest

from imgrec.embedders.modalities.sift_codebook import SiftCodebook, codebook_path
from imgrec.search import Searcher
from imgrec.search.indexes.layout import IndexFolder, list_indexes
from imgrec.storage.library import open_library
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


def test_a_codebook_under_its_former_name_is_the_same_codebook(photos: Path, library: Path) -> None:
    """Else a library with one of its own would get new vectors, or look its pictures up by the packaged one."""
    random, picture = np.random.default_rng(0), min(photos.iterdir())
    own = SiftCodebook(*(random.standard_normal(shape).astype(np.float32) for shape in ((128,), (128, 64), (64, 64))))
    ingest(photos, library, ["sift"])
    own.save(codebook_path(library / "models", own.digest))
    home = open_library(library)
    home.with_vector_settings({**home.vector_settings, "sift_codebook": own.digest})
    ingest(library=library)
    with Searcher(library) as searcher:
        before = searcher.search([picture])[0].hits
    written = [path for path in library.rglob("*.json") if own.digest in path.read_text()]
    assert {path.name for path in written} == {"library.json", "manifest.json"}
    for path in written:
        path.write_text(path.read_text().replace("sift_codebook", "sift_model"))
    with Searcher(library) as searcher:
        assert searcher.search([picture])[0].hits == before
    again = ingest(library=library)
    assert again.embedded is not None and again.embedded.images == 0
    assert {index.action for index in again.indexes.values()} == {"unchanged"}
