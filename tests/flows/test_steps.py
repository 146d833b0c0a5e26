"""An ingest step by step: the same library in the end, and each step a command and a flow."""

from pathlib import Path

import pytest

from imgrec.flows.build_indexes import build_indexes
from imgrec.flows.embed_images import embed_images
from imgrec.flows.ingest_images import ingest_images
from imgrec.flows.scan_images import scan_images
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.storage.registry.registry import Registry
from tests.flows.conftest import Imgrec
from tests.plain import build, embed, ingest, scan


def contents(library: Path) -> dict[str, tuple[bytes, bytes]]:
    with Registry.open_for_reading(library / "registry.sqlite") as registry:
        rows = registry.connection.execute(
            """SELECT path, color.vector, sift.vector FROM images
               JOIN color_vectors AS color ON color.image_id = id JOIN sift_vectors AS sift ON sift.image_id = id"""
        )
        return {path: (color, sift) for path, color, sift in rows}


@pytest.mark.usefixtures("through_prefect")
def test_the_steps_together_are_an_ingest(photos: Path, tmp_path: Path) -> None:
    whole, steps = tmp_path / "whole", tmp_path / "steps"
    ingested = ingest_images(photos, whole, ["color", "sift"])
    scanned = scan_images(photos, steps)
    assert scanned.scan is not None
    assert (scanned.scan.identified.new, scanned.embedded, dict(scanned.indexes)) == (6, None, {})
    for modality in ("color", "sift"):
        embedded = embed_images(steps, [modality]).embedded
        assert embedded is not None
        assert embedded.images == 6
    built = build_indexes(steps)
    assert contents(steps) == contents(whole)
    assert built.indexes.keys() == ingested.indexes.keys() == {"color", "sift", "combo_color_sift"}
    assert all(report.manifest.live == 6 for report in built.indexes.values())


def test_one_modality_can_be_brought_up_to_date_before_the_other(photos: Path, library: Path) -> None:
    ingest(photos, library, ["color", "sift"])
    (photos / "new.png").write_bytes((photos / "cell.png").read_bytes() + b"\0")  # other content, same picture
    scan(library=library)
    color = embed(library, ["color"]).embedded
    between = {name: report.manifest.live for name, report in build(library).indexes.items()}
    both = embed(library).embedded
    # A combined row is written once, so it waits for all of its vectors.
    assert between == {"color": 7, "sift": 6, "combo_color_sift": 6}
    assert build(library).indexes["combo_color_sift"].manifest.live == 7
    assert color is not None
    assert both is not None
    assert (color.images, both.images) == (1, 1)
    assert len(contents(library)) == 7


def test_an_index_keeps_its_parameters_until_others_are_given(photos: Path, library: Path) -> None:
    def parameters() -> object:
        return IndexFolder(library / "indexes", "color").read_manifest().parameters

    ingest(photos, library)
    assert parameters() == IndexParameters().kept
    assert build(library, ["color"], hnsw_m=16, ef_search=80).indexes["color"].action == "built"
    assert ingest(library=library).indexes["color"].action == "unchanged"
    assert parameters() == IndexParameters(hnsw_m=16, ef_search=80).kept
    rebuilt = build(library, rebuild=True).indexes["color"]
    assert (rebuilt.action, rebuilt.manifest.parameters) == ("built", parameters())


@pytest.mark.usefixtures("through_prefect")
def test_the_commands_go_step_by_step(imgrec: Imgrec, photos: Path, library: Path) -> None:
    (scanned,) = imgrec("scan", photos, "--library", library, "--json").lines
    assert (scanned["new"], scanned["images"]["ok"]) == (6, 6)
    assert "embedded" not in scanned
    (embedded,) = imgrec("embed", "--library", library, "--modality", "color", "--chunk-size", 4, "--json").lines
    assert (embedded["embedded"], embedded["indexes"]) == (6, {})
    parameters = ("--hnsw-m", 24, "--ef-construction", 80, "--ef-search", 50, "--batch-size", 512)
    (built,) = imgrec("index", "build", "--library", library, "--index", "color", *parameters, "--json").lines
    index = built["indexes"]["color"]
    assert [index[key] for key in ("vectors", "hnsw_m", "ef_construction", "ef_search")] == [6, 24, 80, 50]
    (answer,) = imgrec("search", photos / "cell.png", "--library", library, "--json").lines
    assert answer["hits"][0]["path"] == "cell.png"


@pytest.mark.usefixtures("through_prefect")
def test_steps_need_a_library(imgrec: Imgrec, library: Path) -> None:
    for command in (("embed",), ("index", "build")):
        ran = imgrec(*command, "--library", library)
        assert ran.code == 1
        assert ran.err.startswith(f"imgrec: error: no library at {library}")
        assert not library.exists()


def test_an_index_is_dropped_and_it_is_said_that_it_comes_back(imgrec: Imgrec, photos: Path, library: Path) -> None:
    assert imgrec("ingest", photos, "--library", library, "--modality", "color", "--modality", "sift").code == 0
    (library / "imgrec.toml").write_text('indexes = ["color", "sift", "combo_sift_color"]\n')
    dropped = imgrec("index", "drop", "combo_sift_color", "sift", "combo_color_sift", "--library", library)
    assert dropped.code == 0
    assert dropped.out.startswith("dropped combo_color_sift, sift, ")
    assert "builds combo_color_sift, sift again, unless the setting indexes names others" in dropped.out
    (library / "imgrec.toml").write_text('indexes = ["color"]\n')
    assert imgrec("ingest", "--library", library).code == 0
    (told,) = imgrec("index", "drop", "color", "--library", library, "--json").lines
    assert (told["dropped"], told["bytes"] > 0) == (["color"], True)
    missing = imgrec("index", "drop", "sift", "--library", library)
    assert (missing.code, missing.err) == (1, f"imgrec: error: no index 'sift' in {library}: there are none\n")
