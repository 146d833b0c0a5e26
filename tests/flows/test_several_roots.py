"""A library of several folders of photos, as its users meet it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import imgrec as api
from imgrec.search.upkeep.backup import back_up
from imgrec.search.upkeep.doctor import examine
from imgrec.storage.library import open_library
from imgrec.storage.registry.registry import Registry
from tests.flows.conftest import Imgrec
from tests.search.libraries import PARAMETERS


@pytest.fixture
def laptop(photos: Path) -> Path:
    """Six pictures, one of them in a folder called as the other root."""
    (photos / "nas").mkdir()
    first = min(path for path in photos.iterdir() if path.is_file())
    shutil.copy(first, photos / "nas" / "same.png")
    return photos


@pytest.fixture
def nas(tmp_path: Path, pictures: Path) -> Path:
    """Four other pictures, and one that is damaged."""
    folder = tmp_path / "the nas"
    folder.mkdir()
    for picture in sorted(pictures.glob("*.png"))[-4:]:
        shutil.copy(picture, folder)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture
def both(imgrec: Imgrec, laptop: Path, nas: Path, library: Path) -> dict[str, Any]:
    """The report of a first ingest of both."""
    (report,) = imgrec("ingest", f"laptop={laptop}", f"nas={nas}", "--library", library, "--json").lines
    return dict(report)


def rows(library: Path) -> dict[int, tuple[str, bool]]:
    with Registry.open_for_reading(library / "registry.sqlite") as registry:
        found = registry.connection.execute("SELECT id, path, missing_since IS NULL FROM images")
        return {image_id: (path, bool(there)) for image_id, path, there in found}


def facts(library: Path) -> dict[str, Any]:
    return dict(json.loads((library / "library.json").read_text()))


def test_two_folders_become_a_library_that_remembers_them(
    imgrec: Imgrec, both: dict[str, Any], laptop: Path, nas: Path, library: Path
) -> None:
    assert (both["new"] + both["copied"], both["images"]) == (12, {"ok": 11, "failed": 1, "missing": 0})
    assert (both["images_root"], both["images_roots"]) == (None, {"laptop": str(laptop), "nas": str(nas)})
    (again,) = imgrec("ingest", "--library", library, "--json").lines
    assert (again["unchanged"], again["roots_left_alone"]) == (12, {})

    (status,) = imgrec("status", "--library", library, "--json").lines
    assert (status["root"], status["roots"]) == (None, {
        "laptop": {"folder": str(laptop), "absent": None, "ok": 7, "failed": 0, "missing": 0},
        "nas": {"folder": str(nas), "absent": None, "ok": 4, "failed": 1, "missing": 0},
    })  # fmt: skip
    (failure,) = imgrec("failures", "--library", library, "--json").lines
    assert (failure["path"], failure["root"], failure["file"]) == ("nas/broken.png", str(nas), str(nas / "broken.png"))
    (answer,) = imgrec("search", "id:1", "--library", library, "--top-k", 99, "--json").lines
    assert (answer["root"], Path(answer["file"]).parent) == (None, laptop)
    for hit in answer["hits"]:
        name, _, below = hit["path"].partition("/")
        assert hit["root"] == {"laptop": str(laptop), "nas": str(nas)}[name]
        assert hit["file"] == f"{hit['root']}/{below}"
        assert Path(hit["file"]).is_file()
    sheet = library.with_name("hits.png")
    assert imgrec("search", "id:1", "--library", library, "--preview", sheet).code == 0
    assert sheet.is_file()


def test_a_library_of_one_folder_is_extended_and_nothing_is_embedded_or_read_again(
    imgrec: Imgrec, laptop: Path, nas: Path, library: Path
) -> None:
    imgrec("ingest", laptop, "--library", library)
    assert (facts(library)["format_version"], facts(library)["images_root"]) == (1, str(laptop))
    before = rows(library)
    refused = imgrec("ingest", nas, "--library", library)
    assert (refused.code, f"'nas={nas}'" in refused.err or f"nas={nas}" in refused.err) == (1, True)
    refused = imgrec("ingest", f"nas={nas}", "--library", library)
    assert (refused.code, f"photos={laptop} 'nas={nas}' --library {library}`" in refused.err) == (1, True)
    assert rows(library) == before

    given = (f"laptop={laptop}", f"nas={nas}", "--library", library, "--json")
    (dry,) = imgrec("ingest", *given, "--dry-run").lines
    assert (dry["found"], dry["gone"], dry["excluded"], dry["refused"]) == (12, 0, 0, None)
    assert (rows(library), facts(library)["format_version"]) == (before, 1)
    (report,) = imgrec("ingest", *given).lines
    assert (report["unchanged"], report["new"], report["missing"], report["embedded"]) == (7, 5, 0, 4)
    after = rows(library)
    assert {image_id: after[image_id] for image_id in before} == {
        image_id: (f"laptop/{path}", there) for image_id, (path, there) in before.items()
    }
    assert facts(library)["format_version"] == 2
    assert not {"images_root", "renamed_roots"} & facts(library).keys()


def test_a_root_that_is_not_mounted_costs_nothing(
    imgrec: Imgrec, both: dict[str, Any], laptop: Path, nas: Path, library: Path, tmp_path: Path
) -> None:
    away = nas.rename(tmp_path / "away")
    (laptop / "nas" / "same.png").unlink()
    told = imgrec("ingest", "--library", library)
    assert told.code == 0
    assert told.err == (
        f"imgrec: warning: nas={nas} is left alone, as if it were not mounted: there is no such folder. Its photos "
        "stay in the library as they are\n"
    )
    (dry,) = imgrec("ingest", "--library", library, "--dry-run", "--json").lines
    assert (dry["gone"], dry["roots_left_alone"]) == (0, {"nas": "there is no such folder"})
    (status,) = imgrec("status", "--library", library, "--json").lines
    assert status["images"] == {"ok": 10, "failed": 1, "missing": 1}
    (answer,) = imgrec("search", "id:1", "--library", library, "--top-k", 99, "--json").lines
    assert sum(hit["root"] == str(nas) for hit in answer["hits"]) == 4

    # What waits for vectors there goes on waiting, without a word for every photo.
    imgrec("ingest", "--library", library)
    more = imgrec("ingest", "--library", library, "--modality", "sift", "--json")
    assert (more.lines[0]["embedded"], more.err.count("\n"), more.code) == (6, 1, 0)
    alone = imgrec("embed", "--library", library, "--json")
    assert (alone.lines[0]["embedded"], alone.err) == (0, "")
    away.rename(nas)
    (back,) = imgrec("ingest", "--library", library, "--json").lines
    assert (back["embedded"], back["new"], back["returned"], back["roots_left_alone"]) == (4, 0, 0, {})


def test_an_emptied_root_is_believed_with_accept_missing(
    imgrec: Imgrec, both: dict[str, Any], nas: Path, library: Path
) -> None:
    for path in nas.iterdir():
        path.unlink()
    assert imgrec("ingest", "--library", library, "--json").lines[0]["missing"] == 0
    (report,) = imgrec("ingest", "--library", library, "--accept-missing", "--json").lines
    assert (report["missing"], report["indexes"]["color"]["vectors"]) == (5, 7)


def test_where_nothing_is_mounted_the_ingest_fails(
    imgrec: Imgrec, both: dict[str, Any], laptop: Path, nas: Path, library: Path, tmp_path: Path
) -> None:
    before = rows(library)
    for number, folder in enumerate((laptop, nas)):
        folder.rename(tmp_path / f"away-{number}")
    ran = imgrec("ingest", "--library", library)
    assert (ran.code, ran.err.count("\n"), "no folder of photos is there" in ran.err) == (1, 1, True)
    assert rows(library) == before


def test_one_root_moves(imgrec: Imgrec, both: dict[str, Any], nas: Path, library: Path, tmp_path: Path) -> None:
    before = rows(library)
    elsewhere = nas.rename(tmp_path / "elsewhere")
    refused = imgrec("ingest", f"nas={elsewhere}", "--library", library)
    assert (refused.code, f"imgrec ingest nas={elsewhere} --photos-moved" in refused.err) == (1, True)
    assert "these names" in imgrec("ingest", elsewhere, "--photos-moved", "--library", library).err
    (tmp_path / "empty").mkdir()
    wrong = imgrec("ingest", f"nas={tmp_path / 'empty'}", "--photos-moved", "--library", library)
    assert (wrong.code, facts(library)["images_roots"]["nas"]) == (1, str(nas))
    (report,) = imgrec("ingest", f"nas={elsewhere}", "--photos-moved", "--library", library, "--json").lines
    assert (report["new"], report["missing"], report["embedded"], report["unchanged"]) == (0, 0, 0, 12)
    assert rows(library) == before
    assert facts(library)["images_roots"]["nas"] == str(elsewhere)


def test_a_root_gets_another_name(imgrec: Imgrec, both: dict[str, Any], nas: Path, library: Path) -> None:
    before = rows(library)
    (report,) = imgrec("ingest", f"disk={nas}", "--library", library, "--json").lines
    assert (report["unchanged"], report["embedded"]) == (12, 0)
    assert rows(library) == {
        image_id: (f"disk/{path[4:]}" if path.startswith("nas/") else path, there)
        for image_id, (path, there) in before.items()
    }


def test_a_root_is_removed_and_comes_back(imgrec: Imgrec, both: dict[str, Any], nas: Path, library: Path) -> None:
    before = rows(library)
    (report,) = imgrec("ingest", "--remove-root", "nas", "--library", library, "--json").lines
    assert (report["missing"], report["excluded"], report["indexes"]["color"]["vectors"]) == (0, 5, 7)
    assert "nas" not in facts(library)["images_roots"]
    assert {there for path, there in rows(library).values() if path.startswith("nas/")} == {False}
    unknown = imgrec("ingest", "--remove-root", "usb", "--library", library)
    assert (unknown.code, "no folder of photos named usb" in unknown.err) == (2, True)
    last = imgrec("ingest", "--remove-root", "laptop", "--library", library)
    assert (last.code, "would have no folder of photos" in last.err) == (2, True)
    (back,) = imgrec("ingest", f"nas={nas}", "--library", library, "--json").lines
    assert (back["returned"], back["embedded"]) == (5, 0)
    assert rows(library) == before


def test_photos_that_move_between_roots_keep_ids_and_vectors(
    imgrec: Imgrec, both: dict[str, Any], laptop: Path, nas: Path, library: Path
) -> None:
    before = {path: image_id for image_id, (path, _) in rows(library).items()}
    names = [path.name for path in nas.glob("*.png")]
    for name in names:
        (nas / name).rename(laptop / name)
    (nas / "left.txt").touch()
    (nas / "new.png").write_bytes((laptop / names[0]).read_bytes() + b"x")
    (report,) = imgrec("ingest", "--library", library, "--json").lines
    assert (report["moved"], report["missing"]) == (5, 0)
    after = {path: image_id for image_id, (path, there) in rows(library).items() if there}
    assert {name: after[f"laptop/{name}"] for name in names} == {name: before[f"nas/{name}"] for name in names}


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["a={0}/photos", "b={0}/photos/nas"], 1, "is inside of"),
        (["a={0}/photos", "b={0}/photos"], 1, "given twice"),
        (["a={0}/photos", "{0}/the nas"], 2, "give each folder a name"),
        (["{0}/photos", "{0}/the nas"], 2, "give each folder a name"),
        (["a={0}/photos", "a={0}/the nas"], 2, "given twice"),
        (["a={0}/photos", "b={0}/nowhere"], 1, "nowhere is no folder"),
        (["a="], 2, "a= names no folder"),
        (["{0}/photos", "--remove-root", "b"], 2, "others are given as NAME=FOLDER"),
        (["a={0}/photos", "--remove-root", "b"], 2, "no library that has a folder of this name"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    imgrec: Imgrec, laptop: Path, nas: Path, library: Path, tmp_path: Path, given: list[str], code: int, said: str
) -> None:
    ran = imgrec("ingest", *(text.format(tmp_path) for text in given), "--library", library)
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert not library.exists()


def lose_the_registrys_half(library: Path, before: bytes) -> None:
    """library.json was written, and the transaction that follows is lost."""
    (library / "registry.sqlite").write_bytes(before)
    for suffix in ("-wal", "-shm"):
        (library / f"registry.sqlite{suffix}").unlink(missing_ok=True)


@pytest.mark.parametrize("lost", [True, False])
@pytest.mark.parametrize("of_one", [True, False])
def test_a_renaming_killed_between_library_and_registry_is_completed(
    imgrec: Imgrec, laptop: Path, nas: Path, library: Path, lost: bool, of_one: bool
) -> None:
    given = [laptop] if of_one else [f"laptop={laptop}", f"nas={nas}"]
    imgrec("ingest", *given, "--library", library)
    old, new, folder = ("", "pics", laptop) if of_one else ("nas", "disk", nas)
    with Registry.open_for_writing(library / "registry.sqlite") as registry:
        registry.connection.execute("PRAGMA journal_mode = DELETE")
    before = (library / "registry.sqlite").read_bytes()
    (after,) = imgrec("ingest", f"{new}={folder}", "--library", library, "--json").lines
    replace(open_library(library), renamed_roots={old: new}).save()  # as it was right before the end
    if lost:
        lose_the_registrys_half(library, before)

    (answer,) = imgrec("search", "id:1", "--library", library, "--top-k", 99, "--json").lines
    assert len(answer["hits"]) == (7 if of_one else 11)
    assert all(Path(hit["file"]).is_file() for hit in answer["hits"])
    findings = [found.finding.check for found in examine(library, PARAMETERS)]
    assert findings == ["registry.roots"]
    (report,) = imgrec("ingest", "--library", library, "--json").lines
    assert (report["unchanged"], report["missing"], report["moved"]) == (after["unchanged"], 0, 0)
    assert "renamed_roots" not in facts(library)
    assert examine(library, PARAMETERS) == []


def test_the_doctor_ends_a_renaming(imgrec: Imgrec, both: dict[str, Any], nas: Path, library: Path) -> None:
    known = open_library(library)
    folders = {"laptop": known.roots.folders["laptop"], "disk": str(nas)}
    replace(known, images_roots=folders, renamed_roots={"nas": "disk"}).save()
    (diagnosis,) = examine(library, PARAMETERS, fix=True)
    assert (diagnosis.finding.check, diagnosis.fixed) == ("registry.roots", True)
    assert sum(path.startswith("disk/") for path, _ in rows(library).values()) == 5
    assert imgrec("ingest", "--library", library, "--json").lines[0]["unchanged"] == 12


@pytest.mark.parametrize("change", ["added", "removed"])
def test_an_ingest_killed_as_it_took_other_roots_is_completed(
    imgrec: Imgrec, both: dict[str, Any], nas: Path, library: Path, change: str
) -> None:
    if change == "added":
        imgrec("ingest", "--remove-root", "nas", "--library", library)
    known = open_library(library)
    folders = {"laptop": known.roots.folders["laptop"], **({"nas": str(nas)} if change == "added" else {})}
    replace(known, images_roots=folders).save()  # noted; the transaction that follows is lost
    (answer,) = imgrec("search", "id:1", "--library", library, "--top-k", 99, "--json").lines
    assert all(Path(hit["file"]).is_file() for hit in answer["hits"])
    if change == "removed":
        (diagnosis,) = examine(library, PARAMETERS)
        assert "5 photos are in none of the library's folders" in diagnosis.finding.what
    (report,) = imgrec("ingest", "--library", library, "--json").lines
    assert (report["returned"], report["excluded"]) == ((5, 0) if change == "added" else (0, 5))
    assert report["indexes"]["color"]["vectors"] == (11 if change == "added" else 7)


def test_a_backup_is_of_the_same_names(both: dict[str, Any], library: Path, tmp_path: Path) -> None:
    back_up(library, tmp_path / "backup", PARAMETERS)
    assert open_library(tmp_path / "backup").roots == open_library(library).roots
    assert rows(tmp_path / "backup") == rows(library)


def test_the_library_call_and_the_settings_take_names(
    laptop: Path, nas: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = api.ingest({"laptop": laptop}, library=library, orchestrate="none")
    assert (report.roots.are_named, report.images["ok"]) == (True, 7)
    monkeypatch.setenv("IMGREC_IMAGES_ROOT", f"laptop={laptop}\nnas={nas}")
    assert api.ingest(library=library).images["ok"] == 11
    monkeypatch.delenv("IMGREC_IMAGES_ROOT")
    (library / "imgrec.toml").write_text(f'[images_root]\nlaptop = "{laptop}"\nnas = "{nas}"\n')
    scanned = api.ingest(library=library).scan
    assert scanned is not None
    assert (scanned.found, scanned.unchanged) == (12, 12)
    (library / "imgrec.toml").unlink()
    assert api.ingest({"nas": None}, library=library).images == {"ok": 7, "failed": 0, "missing": 5}
    with api.open(library) as opened:
        (answer,) = opened.search(laptop / "nas" / "same.png", top_k=1)
        assert answer.hits[0].root == str(laptop)


@pytest.mark.usefixtures("through_prefect")
def test_a_flow_takes_names(imgrec: Imgrec, laptop: Path, nas: Path, library: Path) -> None:
    from imgrec.flows.ingest_images import ingest_images

    named = {"laptop": laptop, "nas": nas}
    assert ingest_images(images_root=named, library=library, modalities=["color"]).images["ok"] == 11
    (report,) = imgrec("ingest", "--remove-root", "nas", "--library", library, "--json").lines
    assert (report["excluded"], report["images_roots"]) == (5, {"laptop": str(laptop)})
