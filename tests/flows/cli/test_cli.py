"""The commands, as a user types them."""

import base64
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from imgrec.flows import train_sift
from imgrec.flows.pipeline import libraries
from imgrec.storage.library import create_library, open_library
from imgrec.storage.registry.registry import Registry
from tests import plain
from tests.flows.conftest import Imgrec


@pytest.mark.usefixtures("through_prefect")
def test_from_photos_to_hits(imgrec: Imgrec, photos: Path, library: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (photos / "notes.txt").write_text("hello")

    (report,) = imgrec("ingest", photos, "--library", library, "--json").lines

    assert (report["new"], report["embedded"], report["other_files"]) == (7, 6, {".txt": 1})
    assert report["images"] == {"ok": 6, "failed": 1, "missing": 0}
    assert report["indexes"]["color"]["vectors"] == 6
    assert report["indexes"]["color"]["recall_at_10"] == 1.0

    (answer,) = imgrec("search", photos / "chelsea.png", "--library", library, "--json", "--top-k", 3).lines
    assert (answer["query"], answer["index"]) == (str(photos / "chelsea.png"), "color")
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    best = answer["hits"][0]
    assert (answer["root"], answer["file"]) == (str(photos), str(photos / "chelsea.png"))
    assert set(best) == {"rank", "id", "path", "score", "scores", "root", "file"}
    assert best["file"] == str(photos / "chelsea.png")
    assert best["path"] == "chelsea.png"
    assert best["score"] == pytest.approx(1, abs=1e-5)
    assert best["scores"] == {"color": best["score"]}

    by_id, by_file = imgrec("search", f"id:{best['id']}", photos / "chelsea.png", "--library", library, "--json").lines
    assert [hit["id"] for hit in by_id["hits"]] == [hit["id"] for hit in by_file["hits"]]

    (status,) = imgrec("status", "--library", library, "--json").lines
    assert set(status) == {"root", "roots", "images", "vectors", "indexes"}
    assert (status["root"], status["roots"]) == (str(photos), {})
    assert (status["images"]["ok"], status["vectors"], status["indexes"]["color"]["vectors"]) == (6, {"color": 6}, 6)

    (failure,) = imgrec("failures", "--library", library, "--json").lines
    assert set(failure) == {"id", "path", "status", "reason", "remedy", "root", "file"}
    assert (failure["root"], failure["file"]) == (str(photos), str(photos / "broken.jpg"))
    assert (failure["path"], failure["status"]) == ("broken.jpg", "corrupt")

    rows = imgrec("sql", "select path, len(vector) as n from color order by path", "--library", library, "--json").lines
    assert rows[0] == {"path": "astronaut.png", "n": 512}
    assert len(rows) == 6


def test_a_second_ingest_does_only_what_is_new(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)
    (photos / "moved").mkdir()
    (photos / "chelsea.png").rename(photos / "moved" / "cat.png")
    (photos / "copy.png").write_bytes((photos / "cell.png").read_bytes())
    Image.new("RGB", (64, 48), "teal").save(photos / "teal.jpg")
    (photos / "brick.png").unlink()

    (report,) = imgrec("ingest", photos, "--library", library, "--json").lines

    counts = {key: report[key] for key in ("new", "copied", "moved", "changed", "missing", "embedded", "unchanged")}
    assert counts == {
        "new": 1, "copied": 1, "moved": 1, "changed": 0, "missing": 1, "embedded": 1, "unchanged": 4,
    }  # fmt: skip
    (answer,) = imgrec("search", photos / "teal.jpg", "--library", library, "--json").lines
    paths = {hit["path"] for hit in answer["hits"]}
    assert paths == {"teal.jpg", "copy.png", "cell.png", "moved/cat.png", "astronaut.png", "camera.png"} | (
        paths & {"coffee.png"}
    )
    assert "brick.png" not in paths


def test_a_dry_run_changes_nothing(imgrec: Imgrec, photos: Path, library: Path) -> None:
    (estimate,) = imgrec("ingest", photos, "--library", library, "--dry-run", "--json").lines
    assert (estimate["found"], estimate["to_read"], estimate["unchanged"]) == (6, 6, 0)
    assert estimate["seconds"] > 0
    assert estimate["disk_bytes"] > 6 * 512 * 4
    assert not library.exists()

    imgrec("ingest", photos, "--library", library)
    before = (library / "registry.sqlite").read_bytes()
    (photos / "astronaut.png").unlink()
    (estimate,) = imgrec("ingest", "--library", library, "--dry-run", "--json").lines
    assert estimate["gone"] == 1
    assert (library / "registry.sqlite").read_bytes() == before


@pytest.mark.usefixtures("through_prefect")
def test_reembedding_changes_every_vector_at_once(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)

    refused = imgrec("ingest", photos, "--library", library, "--bins", "4x4x4")
    assert refused.code == 1
    assert "--bins 4x4x4" in refused.err
    assert "imgrec reembed" in refused.err
    assert imgrec("status", "--library", library, "--json").lines[0]["indexes"]["color"]["dim"] == 512

    (report,) = imgrec("reembed", "--library", library, "--bins", "4x4x4", "--json").lines
    assert report["embedded"] == 6
    (status,) = imgrec("status", "--library", library, "--json").lines
    assert (status["vectors"], status["indexes"]["color"]["dim"]) == ({"color": 6}, 64)
    assert imgrec("search", "id:1", "--library", library, "--json").lines[0]["hits"][0]["id"] == 1


@pytest.mark.usefixtures("through_prefect")
def test_many_photos_gone_at_once_stop_the_ingest(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)
    for path in photos.iterdir():
        path.unlink()

    refused = imgrec("ingest", "--library", library)

    assert refused.code == 1
    assert "--accept-missing" in refused.err
    assert imgrec("status", "--library", library, "--json").lines[0]["images"]["missing"] == 0
    assert imgrec("ingest", "--library", library, "--accept-missing").code == 0
    assert imgrec("status", "--library", library, "--json").lines[0]["images"]["missing"] == 6
    (nothing,) = imgrec("search", __file__.replace("test_cli.py", "nothing.png"), "--library", library).err.splitlines()
    assert "nothing.png cannot be read" in nothing


def test_a_dry_run_says_that_many_photos_are_gone(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)
    assert imgrec("ingest", "--library", library, "--dry-run", "--json").lines[0]["refused"] is None
    for path in photos.iterdir():
        path.unlink()

    (estimate,) = imgrec("ingest", "--library", library, "--dry-run", "--json").lines
    told = imgrec("ingest", "--library", library, "--dry-run")
    accepted = imgrec("ingest", "--library", library, "--dry-run", "--accept-missing", "--json")
    refused = imgrec("ingest", "--library", library)

    assert estimate["refused"].startswith("would be refused: 6 of 6 photos are gone from ")
    assert (told.code, f"It {estimate['refused']}" in told.out) == (0, True)
    assert accepted.lines[0]["refused"] is None
    assert refused.err.removeprefix("imgrec: error: ").strip() in estimate["refused"]


def test_photos_that_moved_keep_their_ids(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)
    elsewhere = photos.rename(photos.with_name("elsewhere"))

    refused = imgrec("ingest", elsewhere, "--library", library)
    assert (refused.code, "--photos-moved" in refused.err) == (1, True)
    assert "--photos-moved" in imgrec("ingest", "--library", library).err

    (report,) = imgrec("ingest", elsewhere, "--library", library, "--photos-moved", "--json").lines
    assert (report["new"], report["missing"], report["embedded"], report["images"]["ok"]) == (0, 0, 0, 6)


def test_a_folder_that_is_refused_does_not_become_the_librarys(
    imgrec: Imgrec, photos: Path, library: Path, tmp_path: Path
) -> None:
    imgrec("ingest", photos, "--library", library)
    before = (library / "library.json").read_bytes()
    (tmp_path / "empty").mkdir()

    for step in ("ingest", "scan"):
        refused = imgrec(step, tmp_path / "empty", "--library", library, "--photos-moved")
        assert (refused.code, "6 of 6 photos are not below" in refused.err) == (1, True)
        assert (library / "library.json").read_bytes() == before
    (report,) = imgrec("ingest", photos, "--library", library, "--json").lines
    assert (report["unchanged"], report["missing"]) == (6, 0)


def test_a_wrong_folder_changes_nothing_of_a_library(
    imgrec: Imgrec, photos: Path, library: Path, tmp_path: Path
) -> None:
    imgrec("ingest", photos, "--library", library)
    before = (library / "library.json").read_bytes()
    assert imgrec("ingest", tmp_path, "--library", library, "--modality", "sift").code == 1
    assert (library / "library.json").read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["elsewhere", "--photos-moved"]])
def test_an_ingest_killed_as_it_took_the_new_folder_is_completed_by_the_next(
    imgrec: Imgrec, photos: Path, library: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    imgrec("ingest", photos, "--library", library)
    elsewhere = photos.with_name("elsewhere") / "photos"
    elsewhere.parent.mkdir()
    for path in sorted(photos.iterdir())[:4]:  # two are left where they were, too few to stop an ingest of there
        elsewhere.mkdir(exist_ok=True)
        path.rename(elsewhere / path.name)
    open_library(library).with_images_root(elsewhere.parent)  # noted; the transaction that follows is lost
    monkeypatch.chdir(elsewhere.parents[1])

    refused = imgrec("ingest", photos, "--library", library)
    assert (refused.code, imgrec("status", "--library", library, "--json").lines[0]["images"]["missing"]) == (1, 0)
    (report,) = imgrec("ingest", *arguments, "--library", library, "--json").lines

    assert (report["moved"], report["missing"], report["new"], report["embedded"]) == (4, 2, 0, 0)


def test_a_dry_run_looks_into_the_new_folder(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)
    elsewhere = photos.rename(photos.with_name("elsewhere"))
    files = library / "library.json", library / "registry.sqlite"
    before = [path.read_bytes() for path in files]

    (estimate,) = imgrec("ingest", elsewhere, "--library", library, "--photos-moved", "--dry-run", "--json").lines

    assert (estimate["found"], estimate["gone"]) == (6, 0)
    assert [path.read_bytes() for path in files] == before


def test_a_folder_without_photos_is_a_warning(imgrec: Imgrec, tmp_path: Path, library: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = imgrec("ingest", tmp_path / "empty", "--library", library)
    assert (ran.code, "no photos in" in ran.err) == (0, True)
    searched = imgrec("search", "id:1", "--library", library)
    assert searched.code == 1
    assert "nothing to search" in searched.err
    assert "imgrec status" in searched.err


@pytest.mark.usefixtures("through_prefect")
def test_too_many_failures_are_an_error_on_request(imgrec: Imgrec, photos: Path, library: Path) -> None:
    (photos / "broken.png").write_bytes(b"nothing")
    ran = imgrec("ingest", photos, "--library", library, "--max-failed-share", "0.1")
    assert ran.code == 1
    assert "imgrec failures" in ran.err
    assert imgrec("ingest", photos, "--library", library, "--max-failed-share", "0.2").code == 0


@pytest.mark.usefixtures("through_prefect")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["ingest", "/nowhere"], 1, "is no folder"),
        (["ingest"], 2, "images_root is not set"),
        (["ingest", ".", "--bins", "0"], 2, "bins"),
        (["ingest", ".", "--chunk-size", "many"], 2, "chunk_size = 'many'"),
        (["ingest", ".", "--modality", "smell"], 2, "no modality 'smell'"),
        (["search", "id:1"], 1, "imgrec ingest"),
        (["search"], 2, "QUERY"),
        (["status"], 1, "no library at"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_a_failure_is_one_clear_line(
    imgrec: Imgrec, tmp_path: Path, arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGREC_LIBRARY", str(tmp_path / "library"))
    monkeypatch.chdir(tmp_path)
    ran = imgrec(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "library").exists()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("ingest photos", 2),
        ("ingest photos --dry-run", 2),
        ("scan photos", 2),
        ("embed", 1),
        ("index build", 1),
        ("reembed", 1),
        ("gc --delete", 1),
        ("doctor --fix", 1),
        ("backup copy", 1),
        ("status", 1),
        ("search id:1", 1),
    ],
)
def test_a_folder_of_photos_is_not_touched_where_it_is_named_as_the_library(
    imgrec: Imgrec, photos: Path, command: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    assert_not_touched(imgrec, photos, command, code)


@pytest.mark.usefixtures("through_prefect")
@pytest.mark.parametrize(("command", "code"), [("ingest photos", 2), ("train sift", 1)])
def test_no_flow_touches_it_either(
    imgrec: Imgrec, photos: Path, command: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    assert_not_touched(imgrec, photos, command, code)


def assert_not_touched(imgrec: Imgrec, photos: Path, command: str, code: int) -> None:
    before = sorted(photos.parent.rglob("*"))
    ran = imgrec(*command.split(), "--library", "photos")
    assert (ran.code, ran.err.count("\n")) == (code, 1)
    assert sorted(photos.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("command", "code"),
    [("ingest .", 2), ("status", 2), ("gc", 2), ("search id:1", 2), ("backup copy", 2), ("doctor", 1)],
)
def test_a_file_that_is_named_as_the_library_is_told_so(
    imgrec: Imgrec, photos: Path, command: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    ran = imgrec(*command.split(), "--library", "cell.png")
    assert (ran.code, ran.err.count("\n")) == (code, 1)
    assert re.search(r"cell.png: (this|there) is a file; name a folder", ran.err)
    below = imgrec(*command.split(), "--library", "cell.png/library")
    assert (below.code, "is a file; name a folder" in below.err) == (code, True)


def test_one_wrong_query_does_not_keep_others_from_answers(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)
    ran = imgrec("search", "id:99", photos / "cell.png", "--library", library, "--json")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "id:99" in ran.err
    assert [answer["hits"][0]["path"] for answer in ran.lines] == ["cell.png"]


def test_two_modalities_are_searched_together(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)

    (report,) = imgrec("ingest", "--library", library, "--modality", "sift", "--json").lines

    assert (report["new"], report["embedded"]) == (0, 6)
    assert {name: index["vectors"] for name, index in report["indexes"].items()} == {
        "color": 6,
        "sift": 6,
        "combo_color_sift": 6,
    }
    assert report["indexes"]["color"]["action"] == "unchanged"
    (answer,) = imgrec("search", photos / "chelsea.png", "--library", library, "--json").lines
    assert (answer["index"], answer["hits"][0]["path"]) == ("combo_color_sift", "chelsea.png")
    assert set(answer["hits"][0]["scores"]) == {"color", "sift"}
    (answer,) = imgrec("search", "id:1", "--library", library, "--json", "--index", "color").lines
    assert (answer["index"], set(answer["hits"][1]["scores"])) == ("color", {"color", "sift"})
    table = imgrec("search", "id:1", "--library", library).out
    assert "color" in table
    assert "sift" in table
    for index in ("combo_color_sift", "combo_sift_color"):
        assert imgrec("search", "id:1", "--library", library, "--json", "--index", index).lines[0]["index"] == (
            "combo_color_sift"
        )
        (report,) = imgrec("index", "build", "--library", library, "--json", "--index", index, "--hnsw-m", 24).lines
        assert {name: built["action"] for name, built in report["indexes"].items()} == dict.fromkeys(
            ("color", "sift", "combo_color_sift"), "unchanged"
        )


@pytest.mark.parametrize("index", ["../../elsewhere", "combo_color_smell", "nose"])
def test_a_wrong_name_of_an_index_is_told_before_anything_is_made(
    imgrec: Imgrec, photos: Path, library: Path, index: str
) -> None:
    for arguments in ((), ("--dry-run",)):
        refused = imgrec("ingest", photos, "--library", library, "--index", index, *arguments)
        said = f"imgrec: error: no index '{index}' can be built of this library's modalities: there are color\n"
        assert (refused.code, refused.err, library.exists()) == (1, said, False)


def test_a_new_library_chooses_its_modalities_says_so_and_keeps_them(
    imgrec: Imgrec, photos: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMGREC_MODALITIES")
    (estimate,) = imgrec("ingest", photos, "--library", library, "--dry-run", "--json").lines
    assert estimate["disk_bytes"] > 6 * (512 + 2048 + 1280) * 4
    chose = "a new library, which keeps these modalities: color, sift, efficientnet;"
    assert chose in imgrec("ingest", photos, "--library", library).out
    monkeypatch.setattr(libraries, "DEFAULT_MODALITIES", ("color",))  # as another version may have them
    (photos / "cat.png").write_bytes((photos / "chelsea.png").read_bytes() + b"\0")
    (report,) = imgrec("ingest", "--library", library, "--json").lines
    assert report["modalities"] == ["color", "sift", "efficientnet"]
    assert report["embedded"] == 1
    names = {*report["modalities"], "combo_color_sift_efficientnet"}
    assert {name: index["vectors"] for name, index in report["indexes"].items()} == dict.fromkeys(names, 7)
    (answer,) = imgrec("search", photos / "cat.png", "--library", library, "--json").lines
    assert answer["index"] == "combo_color_sift_efficientnet"
    assert {hit["path"] for hit in answer["hits"][:2]} == {"cat.png", "chelsea.png"}
    assert answer["hits"][1]["score"] == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("prefect_server")
def test_a_library_learns_a_codebook_of_its_own(
    imgrec: Imgrec, small_pictures: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMGREC_MODALITIES")
    imgrec("ingest", small_pictures, "--library", library, "--modality", "sift")
    before = imgrec("search", "id:1", "--library", library, "--json").lines

    refused = imgrec("train", "sift", "--library", library)
    assert (refused.code, "1,000 are needed" in refused.err) == (1, True)

    monkeypatch.setattr(train_sift, "MIN_PHOTOS", 15)
    (trained,) = imgrec("train", "sift", "--library", library, "--json").lines
    assert trained["photos"] == 20
    assert imgrec("search", "id:1", "--library", library, "--json").lines == before  # the old one serves
    (report,) = imgrec("ingest", "--library", library, "--json").lines
    assert (report["embedded"], report["indexes"]["sift"]["action"]) == (20, "built")
    assert imgrec("search", "id:1", "--library", library, "--json").lines != before
    (again,) = imgrec("train", "sift", "--library", library, "--workers", 1, "--json").lines
    assert again == trained


def test_a_library_folder_that_is_no_text_is_refused(imgrec: Imgrec, photos: Path, tmp_path: Path) -> None:
    ran = imgrec("ingest", photos, "--library", tmp_path / "caf\udce9")
    assert (ran.code, "not UTF-8" in ran.err) == (2, True)


def test_a_preview_is_one_picture_of_all_queries(imgrec: Imgrec, photos: Path, library: Path, tmp_path: Path) -> None:
    imgrec("ingest", photos, "--library", library)
    (photos / "cell.png").unlink()  # a hit whose photo is gone since has a placeholder
    (tmp_path / "new").mkdir()
    sheets = [tmp_path / "new" / name for name in ("one.png", "hits.PNG")]
    for queries, sheet in zip((["id:1"], ["id:1", "id:99", "id:2"]), sheets, strict=True):
        ran = imgrec("search", *queries, "--library", library, "--top-k", 5, "--preview", sheet)
        assert ran.out.splitlines()[-1] == f"preview: {sheet}"
    assert sorted((tmp_path / "new").iterdir()) == sorted(sheets)
    with Image.open(sheets[0]) as one, Image.open(sheets[1]) as two:
        assert (one.format, two.format) == ("PNG", "PNG")
        assert two.size == (one.width, 2 * one.height)
        assert two.crop((0, 0, *one.size)).tobytes() == one.tobytes()
    nothing = imgrec("search", "id:99", "--library", library, "--preview", tmp_path / "new" / "nothing.png")
    assert (nothing.code, nothing.out) == (1, "")
    assert sorted((tmp_path / "new").iterdir()) == sorted(sheets)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("noext", "has to end in .png"),
        ("sheet.jpg", "has to end in .png"),
        ("", "is a folder"),
        ("folder.png", "is a folder"),
        ("new/sheet.png", "there is no folder"),
    ],
)
def test_a_preview_that_cannot_be_written_is_refused_before_the_search(
    imgrec: Imgrec, tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    ran = imgrec("search", "id:1", "--library", tmp_path / "none", "--preview", tmp_path / name)
    assert (ran.code, ran.out) == (2, "")
    assert said in " ".join(ran.err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_preview_that_would_be_too_high_is_refused_before_the_search(
    imgrec: Imgrec, photos: Path, library: Path, tmp_path: Path
) -> None:
    imgrec("ingest", photos, "--library", library)
    where = ("--library", library, "--json", "--preview", tmp_path / "hits.png")
    assert imgrec("search", "id:1", *where, "--top-k", 100_000).code == 0  # the library has only six
    (tmp_path / "hits.png").unlink()
    ran = imgrec("search", *["id:1"] * 60, *where)
    assert (ran.code, ran.out, (tmp_path / "hits.png").exists()) == (2, "", False)
    assert "(60 × 6) would be 36,960 pixels high, and 32,767 is the limit" in " ".join(ran.err.split())


def test_searching_imports_neither_the_orchestrator_nor_torch(library: Path, imgrec: Imgrec, photos: Path) -> None:
    asked = [word for name in ("color", "sift", "efficientnet") for word in ("--modality", name)]
    imgrec("ingest", photos, "--library", library, *asked)
    where = f"'-l', {str(library)!r}, '--device', 'cpu'"
    program = (
        "import sys; from imgrec.flows.cli.main import cli\n"
        f"cli(['search', 'id:1', {str(photos / 'cell.png')!r}, {where}], standalone_mode=False)\n"
        f"cli(['status', '-l', {str(library)!r}], standalone_mode=False)\n"
        "print([name for name in ('prefect', 'torch', 'mlflow', 'pandas', 'duckdb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_names_that_are_not_utf8_are_found_shown_and_opened(imgrec: Imgrec, photos: Path, library: Path) -> None:
    name = b"caf\xe9 \xf0\x9f\x93\xb7\n.png"
    (photos / "cell.png").rename(photos / os.fsdecode(name))
    imgrec("ingest", photos, "--library", library)
    (answer,) = imgrec("search", "id:3", "--library", library, "--json", "--preview", library / "x.png").lines
    (hit,) = (hit for hit in answer["hits"] if hit["path"] == "caf\\xe9 📷\n.png")
    assert hit["file"] is None
    assert base64.b64decode(hit["file_base64"]) == os.fsencode(photos) + b"/" + name
    assert all(Path(hit["file"]).is_file() for hit in answer["hits"] if "file_base64" not in hit)
    (by_file,) = imgrec("search", photos / os.fsdecode(name), "--library", library, "--json").lines
    assert by_file["query"] == f"{photos}/caf\\xe9 📷\n.png"
    assert "caf\\xe9" in imgrec("search", photos / os.fsdecode(name), "--library", library).out
    with sqlite3.connect(library / "registry.sqlite") as connection:
        (raw,) = connection.execute("SELECT raw_path FROM images WHERE raw_path IS NOT NULL").fetchone()
    connection.close()
    assert raw == name


def test_no_name_commands_the_terminal(imgrec: Imgrec, photos: Path, library: Path) -> None:
    name = "\x1b[31mred\n\u202egnp.jpg"
    (photos / name).write_bytes(b"garbage")
    imgrec("ingest", photos, "--library", library)
    (told,) = [line for line in imgrec("failures", "--library", library, "--json").lines if line["path"] == name]
    searched = imgrec("search", f"id:{told['id']}", photos / name, "--library", library)
    for said in (imgrec("failures", "--library", library).out, searched.err):
        assert "\\x1b[31mred\\n\\u202egnp.jpg" in re.sub(r"\s", "", said)
        assert all(letter.isprintable() or letter == "\n" for letter in said)


def test_rows_of_sql_are_json_whatever_their_values(imgrec: Imgrec, tmp_path: Path, library: Path) -> None:
    home = create_library(library, tmp_path, ("color",), {"bins": [8, 8, 8], "decode_min_side": 448})
    with Registry.open_for_writing(home.registry_path):
        pass
    statement = """SELECT 'nan'::FLOAT AS nan, '-inf'::DOUBLE AS inf, '\\x00\\xFF'::BLOB AS blob, 1.5 AS decimal,
                   [1.5, 'inf'::FLOAT] AS list, {'a': 'nan'::FLOAT, 'b': 'x'::BLOB} AS struct,
                   MAP {'x'::BLOB: 2, 'y'::BLOB: NULL} AS map, DATE '2026-01-02' AS day"""
    ran = imgrec("sql", statement, "--library", library, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out, parse_constant=pytest.fail) == {
        "nan": None, "inf": None, "blob": "00ff", "decimal": "1.5", "list": [1.5, None],
        "struct": {"a": None, "b": "78"}, "map": {"78": 2, "79": None}, "day": "2026-01-02",
    }  # fmt: skip
    table = imgrec("sql", "SELECT '\\x00\\xFF'::BLOB AS blob, 'nan'::FLOAT AS nan", "--library", library).out
    assert table.split()[-2:] == ["00ff", "nan"]


def test_every_command_explains_itself(imgrec: Imgrec) -> None:
    commands = re.findall(r"^  (\w+)  ", imgrec("--help").out.split("Commands:")[1], re.MULTILINE)
    assert commands[:2] == ["ingest", "search"]  # in the order of use
    assert {
        "status",
        "failures",
        "duplicates",
        "evaluate",
        "explore",
        "sql",
        "scan",
        "embed",
        "index",
        "reembed",
        "train",
        "gc",
        "doctor",
        "backup",
    } <= set(commands)
    for command in commands:
        ran = imgrec(command, "--help")
        assert ran.code == 0
        assert f"imgrec {command}" in ran.out
    assert json.loads(json.dumps(imgrec("--version").out)).startswith("imgrec")


@pytest.mark.usefixtures("through_prefect")
def test_an_evaluation_is_a_flow(imgrec: Imgrec, photos: Path, library: Path) -> None:
    plain.ingest(photos, library)
    ran = imgrec("evaluate", "--library", library, "--sample", 5, "--copies", 4, "--json")
    assert (ran.code, ran.err) == (0, "")
    (found,) = ran.lines
    assert [(one["index"], one["recall"], one["queries"]) for one in found["indexes"]] == [("color", 1.0, 5)]
    assert found["copies"]["photos"] == 4
    assert found["mlflow"]["experiment"] == "imgrec-evaluate"


def test_a_search_that_expands_shows_the_same_photos_in_another_order(
    imgrec: Imgrec, pictures: Path, library: Path
) -> None:
    plain.ingest(pictures, library)
    usual, expanded = (
        imgrec("search", "id:1", "--library", library, "--top-k", 20, *flags, "--json").lines[0]["hits"]
        for flags in ((), ("--expand",))
    )
    assert expanded[0]["id"] == usual[0]["id"] == 1
    assert [hit["rank"] for hit in expanded] == list(range(1, len(usual) + 1))
    assert {(hit["id"], hit["score"]) for hit in expanded} == {(hit["id"], hit["score"]) for hit in usual}
    assert [hit["id"] for hit in expanded] != [hit["id"] for hit in usual]
    few = imgrec("search", "id:1", "--library", library, "--top-k", 3, "--expand", "--json").lines[0]["hits"]
    assert [hit["id"] for hit in few] == [hit["id"] for hit in expanded[:3]]
