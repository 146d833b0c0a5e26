"""`imgrec explore`: a map of real pictures that grows with the library, and its page."""

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import imgrec as public
from benchmarks.pictures import write_pictures
from imgrec.flows.explore_library import explore_library
from imgrec.search.map.files import MapFolder
from imgrec.search.map.stored import read_map
from imgrec.search.upkeep.backup import back_up
from imgrec.storage.library import open_library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.thumbnails import store as store_module
from imgrec.storage.thumbnails.store import ThumbnailStore, pack_paths
from tests.flows.conftest import Imgrec
from tests.plain import ingest
from tests.search.libraries import PARAMETERS


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory, without_prefect: None, only_colour: None) -> Path:
    """A folder with the library of 140 pictures (20, and 6 near-copies of each), its photos and its map's page."""
    folder = tmp_path_factory.mktemp("explored")
    write_pictures(folder / "photos")
    ingest(folder / "photos", folder / "library", ["color"])
    public.explore(folder / "library", output=folder / "map.html")
    return folder


@pytest.fixture
def folder(explored: Path, tmp_path: Path) -> Path:
    """A copy to change at will."""
    shutil.copytree(explored, tmp_path / "copy")
    facts = tmp_path / "copy" / "library" / "library.json"
    facts.write_text(facts.read_text().replace(str(explored), str(tmp_path / "copy")))
    return tmp_path / "copy"


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def test_near_copies_lie_together(explored: Path) -> None:
    with public.open(explored / "library") as library:
        made, images = library.map("color"), library.images()
    names = dict(zip(images["id"].to_pylist(), images["path"].to_pylist(), strict=True))
    stems = np.array([re.sub(r"(copies/)|(-\w+)?\.\w+$", "", names[image_id]) for image_id in made.ids.tolist()])
    same = stems[:, np.newaxis] == stems
    np.fill_diagonal(same, False)
    apart = np.linalg.norm(made.flat[:, np.newaxis] - made.flat, axis=2)
    assert np.median(apart[same]) < 0.3 * np.median(apart[~same])
    assert len(made) == 140
    assert made.deep.shape == (140, 3)
    assert sum(cluster.size for cluster in made.clusters) + (made.cluster == -1).sum() == 140
    assert len(made.links.source) > 100
    assert made.community.max() > 1


def test_the_page_has_everything_inside(explored: Path) -> None:
    text = (explored / "map.html").read_text("utf-8")
    data = data_of(explored / "map.html")
    assert len(data["ids"]) == len(data["paths"]) == len(data["thumbnails"]) == 140
    for encoded in data["thumbnails"]:
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as small:
            assert small.format == "WEBP"
            assert max(small.size) == 64
    assert "Plotly" in text
    ours = text.replace(re.findall(r"<script>.*?</script>", text, re.DOTALL)[0], "")  # plotly.js names addresses
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", ours)
    assert "default-src 'none'" in text


def test_the_same_seed_gives_the_same_map(folder: Path) -> None:
    drawn = MapFolder(folder / "library" / "maps", "color")
    before, _ = read_map(drawn)
    shutil.rmtree(drawn.root)
    report = public.explore(folder / "library")
    after, facts = read_map(drawn)
    assert report.action == "made"
    assert facts.mapped == 140
    np.testing.assert_array_equal(before.flat, after.flat)
    np.testing.assert_array_equal(before.deep, after.deep)
    np.testing.assert_array_equal(before.community, after.community)
    assert before.clusters == after.clusters


def test_a_library_that_did_not_change_keeps_its_map(folder: Path) -> None:
    before = MapFolder(folder / "library" / "maps", "color").current_version()
    report = public.explore(folder / "library")
    assert (report.action, report.version) == ("unchanged", before)


def test_new_photos_come_beside_their_like_and_nothing_else_moves(folder: Path) -> None:
    before, _ = read_map(MapFolder(folder / "library" / "maps", "color"))
    with Image.open(folder / "photos" / "coffee.png") as picture:
        picture.convert("RGB").resize((500, 330)).save(folder / "photos" / "new.jpg", quality=70)
    (folder / "photos" / "moon.png").unlink()
    ingest(library=folder / "library")
    report = public.explore(folder / "library")
    after, facts = read_map(MapFolder(folder / "library" / "maps", "color"))
    assert (report.action, facts.later, facts.mapped) == ("updated", 1, 140)
    both, rows, old_rows = np.intersect1d(after.ids, before.ids, return_indices=True)
    assert len(both) == 139
    np.testing.assert_array_equal(after.flat[rows], before.flat[old_rows])
    np.testing.assert_array_equal(after.cluster[rows], before.cluster[old_rows])
    with public.open(folder / "library") as library:
        (answer,) = library.search(folder / "photos" / "coffee.png", index="color", top_k=7)
    new = int(np.setdiff1d(after.ids, before.ids)[0])
    apart = np.linalg.norm(after.flat - after.flat[after.ids == new], axis=1)
    nearest = set(after.ids[np.argsort(apart)[:15]].tolist())
    assert len(nearest & {hit.id for hit in answer.hits}) >= 4


def test_many_new_photos_are_laid_out_anew_from_where_the_others_are(folder: Path) -> None:
    before, _ = read_map(MapFolder(folder / "library" / "maps", "color"))
    for source in sorted((folder / "photos" / "copies").iterdir())[:40]:
        with Image.open(source) as picture:
            picture.rotate(90, expand=True).save(folder / "photos" / f"turned-{source.name}", quality=80)
    ingest(library=folder / "library")
    report = public.explore(folder / "library")
    after, facts = read_map(MapFolder(folder / "library" / "maps", "color"))
    assert (report.action, facts.later, facts.mapped) == ("refitted", 0, 180)
    _, rows, old_rows = np.intersect1d(after.ids, before.ids, return_indices=True)
    moved = np.linalg.norm(after.flat[rows] - before.flat[old_rows], axis=1)
    extent = np.ptp(before.flat, axis=0).max()
    assert np.median(moved) < 0.2 * extent


def test_other_parameters_and_other_samples(folder: Path) -> None:
    library = folder / "library"
    fine = public.explore(library, n_neighbors=5)
    assert (fine.action, dict(fine.facts.parameters)["n_neighbors"]) == ("made", 5)
    limited = public.explore(library, limit=60)
    assert (limited.map, limited.facts.mapped, limited.facts.photos) == ("color-60", 60, 140)
    assert "60 of 140 photos, drawn at random" in limited.facts.tell(60)
    placed = public.explore(library, refit=True, n_neighbors=5, map_points=100, graph_points=50)
    assert (placed.facts.mapped, placed.facts.fitted, placed.facts.later) == (140, 100, 0)
    assert "UMAP laid out 100" in placed.facts.tell(140)
    assert placed.facts.graph_photos == 50
    with public.open(library) as opened:
        assert len(opened.map("color", limit=60)) == 60
        assert (opened.map("color").community >= 0).sum() <= 50


def test_the_command_prints_what_there_is(imgrec: Imgrec, folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    (told,) = imgrec(
        *("explore", "--library", folder / "library", "--index", "color", "--json", "-o", page),
        *("--no-paths", "--page-photos", 50),
    ).lines
    assert (told["action"], told["mapped"], told["shown"], told["page"]) == ("unchanged", 140, 50, str(page))
    assert data_of(page)["paths"] is None
    assert "coffee" not in page.read_text("utf-8").partition('id="data"')[2].partition("</script>")[0]
    table = imgrec("explore", "--library", folder / "library", "--no-page")
    assert table.code == 0
    assert "140 photos" in table.out
    assert imgrec("explore", "--library", folder / "library", "-o", tmp_path / "a.png").code == 2
    wrong = imgrec("explore", "--library", folder / "library", "--index", "sift", "--no-page")
    assert (wrong.code, wrong.err) == (1, f"imgrec: error: no index 'sift' in {folder / 'library'}: there are color\n")


def test_odd_names_do_no_harm_to_the_page(photos: Path, library: Path, tmp_path: Path) -> None:
    (photos / "cell.png").rename(photos / "<script>alert(1)<\\script> & 'x' \u2028.png")
    ingest(photos, library)
    public.explore(library, output=tmp_path / "map.html")
    data = data_of(tmp_path / "map.html")
    assert any("<script>alert(1)" in path for path in data["paths"])
    assert "<script>alert" not in (tmp_path / "map.html").read_text("utf-8")
    assert len(data["ids"]) == 6  # too few for a cluster, and mapped all the same


@pytest.mark.usefixtures("through_prefect")
def test_it_is_a_flow(folder: Path, tmp_path: Path) -> None:
    report = explore_library(folder / "library", limit=30, output=tmp_path / "map.html")
    assert (report.action, report.facts.mapped, report.shown) == ("made", 30, 30)
    assert report.tracked is not None
    assert report.tracked.experiment == "imgrec-explore"


def test_thumbnails_come_with_the_vectors(photos: Path, library: Path, imgrec: Imgrec) -> None:
    ingest(photos, library)
    assert len(pack_paths(library / "thumbnails")) == 1
    ingest(library=library, modalities=["sift"])  # decodes all of them again, and draws none anew
    assert len(pack_paths(library / "thumbnails")) == 1
    with public.open(library) as opened:
        ids = opened.images()["id"].to_pylist()
        assert opened.thumbnails([*ids, 999]).keys() == set(ids)
        with Image.open(io.BytesIO(opened.thumbnail(ids[0], 200))) as larger:
            assert max(larger.size) == 256
    shutil.rmtree(library / "thumbnails")
    (made,) = imgrec("thumbnails", "--library", library, "--json").lines
    assert made["made"] == 6
    (made,) = imgrec("thumbnails", "--library", library, "--json").lines
    assert made["made"] == 0


def test_an_ingest_merges_small_packs(photos: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SPARE_PACKS", 2)
    ingest(photos, library, chunk_size=1)
    assert len(pack_paths(library / "thumbnails")) <= 2
    with public.open(library) as opened:
        assert len(opened.thumbnails(range(1, 7))) == 6


def test_a_library_can_do_without_thumbnails(photos: Path, library: Path, tmp_path: Path) -> None:
    ingest(photos, library, thumbnails=False)
    assert not (library / "thumbnails").exists()
    public.explore(library, output=tmp_path / "map.html")  # needs those that it shows
    assert all(data_of(tmp_path / "map.html")["thumbnails"])


def test_garbage_is_what_no_photo_and_no_index_has(imgrec: Imgrec, folder: Path) -> None:
    library = folder / "library"
    assert imgrec("gc", "--library", library, "--json").lines[0]["garbage"] == []
    public.explore(library, refit=True)
    with public.open(library) as opened:
        opened.thumbnail(1, 128)
    home = open_library(library)
    content = ThumbnailStore(home.thumbnails_dir).packs()[0]
    known = sum(len(part) for part in content.hashes())
    (folder / "photos" / "astronaut.png").unlink()
    ingest(library=library)
    kinds = ("--keep-hours", 0, "--missing-days", 0, "--delete", "--json")
    (deleted,) = imgrec("gc", "--library", library, *kinds).lines
    assert {"missing photos", "map version"} <= {item["kind"] for item in deleted["garbage"]}
    (then,) = imgrec("gc", "--library", library, *kinds).lines
    assert [item["kind"] for item in then["garbage"]].count("thumbnails") >= 1
    (pack,) = ThumbnailStore(home.thumbnails_dir).packs()
    assert pack.count == known - 1
    assert imgrec("gc", "--library", library, *kinds).lines[0]["garbage"] == []
    assert imgrec("index", "drop", "color", "--library", library).code == 0
    assert {item["kind"] for item in imgrec("gc", "--library", library, "--json").lines[0]["garbage"]} == {"map"}


def test_doctor_finds_what_is_damaged_and_a_backup_has_all(imgrec: Imgrec, folder: Path, tmp_path: Path) -> None:
    library = folder / "library"
    done = back_up(library, tmp_path / "backup", PARAMETERS)
    assert imgrec("doctor", "--library", library).code == 0
    with public.open(tmp_path / "backup") as copy, public.open(library) as original:
        np.testing.assert_array_equal(copy.map("color").flat, original.map("color").flat)
        assert copy.thumbnails([1, 2]) == original.thumbnails([1, 2])
    assert done.files
    (pack,) = pack_paths(library / "thumbnails")
    pack.write_bytes(pack.read_bytes()[:-1])
    (points,) = (library / "maps" / "color" / "versions").glob("*/points.parquet")
    points.write_bytes(points.read_bytes()[:-1] + b"x")
    (found,) = imgrec("doctor", "--library", library, "--json").lines
    assert [finding["check"] for finding in found["findings"]] == ["thumbnails.damaged", "map.damaged"]
    assert imgrec("doctor", "--library", library, "--fix").code == 0
    assert imgrec("doctor", "--library", library).code == 0
    assert public.explore(library).action == "made"
    assert back_up(library, tmp_path / "backup", PARAMETERS).files
    assert pack_paths(tmp_path / "backup" / "thumbnails") == []


def test_an_ingest_that_writes_is_waited_for(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    import threading

    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        with writer_lock(folder / "library"):
            held.set()
            released.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    threading.Timer(1.5, released.set).start()
    report = public.explore(folder / "library", limit=40)
    holder.join()
    assert report.action == "made"
    assert any("this waits" in record.message for record in caplog.records)
