"""`imgrec duplicates`, as a user types it, on real pictures."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.pictures import real_pictures
from tests.flows.conftest import Imgrec

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "china")


@pytest.fixture
def copies(tmp_path: Path, imgrec: Imgrec) -> tuple[Path, Path]:
    """Folder and library of five pictures, a smaller JPEG of one, and a copy of another, its name no UTF-8."""
    photos, library = tmp_path / "photos", tmp_path / "library"
    photos.mkdir()
    for path in real_pictures():
        if path.stem in NAMES:
            (photos / path.name).write_bytes(path.read_bytes())
    with Image.open(photos / "chelsea.png") as picture:
        small = picture.convert("RGB").resize((picture.width // 2, picture.height // 2))
        small.save(photos / "small cat.jpg", quality=70)
    Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.png")).write_bytes((photos / "coffee.png").read_bytes())
    imgrec("ingest", photos, "--library", library, "--modality", "color", "--modality", "efficientnet")
    return photos, library


def test_from_photos_to_a_tidy_folder(copies: tuple[Path, Path], imgrec: Imgrec, tmp_path: Path) -> None:
    photos, library = copies

    groups = {group["kind"]: group for group in imgrec("duplicates", "-l", library, "--json").lines}
    near, exact = groups["near"], groups["exact"]
    kept = [(photo["path"], photo["keep"]) for photo in near["photos"]]
    assert kept == [("chelsea.png", True), ("small cat.jpg", False)]
    assert near["photos"][0]["why"].startswith("most pixels")
    assert near["photos"][1]["instead"] == near["photos"][0]["id"]
    assert {photo["path"] for photo in exact["photos"]} == {"coffee.png", "caf\\xe9.png"}
    assert [photo["score"] for photo in exact["photos"]] == [1.0, 1.0]

    shown = imgrec(
        "duplicates", "-l", library, "--preview", tmp_path / "copies.png", "--html", tmp_path / "copies.html",
        "--script", tmp_path / "tidy.sh", "--by", "mv", "--to", tmp_path / "away",
    )  # fmt: skip
    assert "1 group of exact copies, 1 of near ones, among 7 photos" in shown.out
    with Image.open(tmp_path / "copies.png") as sheet:
        assert sheet.width == 1_552
    page = (tmp_path / "copies.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4 and "caf%E9.png" in page
    assert not re.search(r'(src|href)="(?!data:|file:)', page)

    subprocess.run(["sh", tmp_path / "tidy.sh"], check=True, capture_output=True)
    assert len(list(photos.iterdir())) == 5 and len(list((tmp_path / "away").iterdir())) == 2
    imgrec("ingest", "--library", library)
    assert imgrec("duplicates", "-l", library, "--json").lines == []


def test_settled_groups_are_not_shown_after_ingests(copies: tuple[Path, Path], imgrec: Imgrec) -> None:
    photos, library = copies
    groups = {group["kind"]: group["group"] for group in imgrec("duplicates", "-l", library, "--json").lines}

    refused = imgrec("duplicates", "-l", library, "--not-duplicates", groups["exact"])
    assert (refused.code, "same bytes" in refused.err) == (1, True)
    settled = imgrec("duplicates", "-l", library, "--settle", groups["exact"], "--not-duplicates", groups["near"])
    assert (settled.code, settled.out.count("is settled")) == (0, 2)
    (photos / "chelsea.png").rename(photos / "cat.png")
    (photos / "another.png").write_bytes((photos / "coffee.png").read_bytes())
    imgrec("ingest", "--library", library)

    assert imgrec("duplicates", "-l", library, "--json").lines == []
    listed = imgrec("duplicates", "-l", library, "--settled", "--json").lines
    assert [group["verdict"] for group in listed] == ["left", "different"]
    assert sorted(listed[1]["paths"]) == ["cat.png", "small cat.jpg"]
    imgrec("duplicates", "-l", library, "--reopen", 1, "--reopen", 2)
    assert len(imgrec("duplicates", "-l", library, "--json").lines) == 2


def test_what_cannot_be_is_refused(copies: tuple[Path, Path], imgrec: Imgrec, tmp_path: Path) -> None:
    _, library = copies
    for arguments, code, told in (
        (("--keep", "beauty"), 1, "is no rule"),
        (("--index", "sift"), 1, "no index 'sift'"),
        (("--by", "mv", "--script", tmp_path / "x.sh"), 2, "--to FOLDER"),
        (("--settle", "77"), 1, "no group 77"),
        (("--reopen", "5"), 1, "no settled group 5"),
        (("--html", tmp_path / "no" / "x.html"), 2, "a folder that is there"),
    ):
        ran = imgrec("duplicates", "-l", library, *arguments)
        assert (ran.code, told in ran.err) == (code, True), ran.err


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_finds_the_same(copies: tuple[Path, Path], imgrec: Imgrec) -> None:
    from imgrec.flows.find_duplicates import find_duplicates

    _, library = copies
    listed = imgrec("duplicates", "-l", library, "--json").lines

    groups = find_duplicates(library)
    assert [(group.number, group.kind) for group in groups] == [(group["group"], group["kind"]) for group in listed]
    assert {group.kind for group in find_duplicates(library, exact=True)} == {"exact"}
