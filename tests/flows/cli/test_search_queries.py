"""`imgrec search`: where queries come from, and which photos may be hits."""

import io
import sys
from pathlib import Path

import pytest

from benchmarks.pictures import real_pictures
from imgrec.flows.search_images import search_images
from tests.flows.conftest import Imgrec
from tests.plain import ingest


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures, a copy of the first in `sub`, and a file that is none; `photos` beside `library`."""
    home = tmp_path_factory.mktemp("queries")
    (home / "photos" / "sub").mkdir(parents=True)
    for path in real_pictures()[:6]:
        (home / "photos" / path.name).write_bytes(path.read_bytes())
    (home / "photos" / "sub" / "copy.png").write_bytes(real_pictures()[0].read_bytes())
    (home / "photos" / "broken.jpg").write_text("no picture")
    ingest(home / "photos", home / "library", ["color"])
    return home / "library"


@pytest.fixture(autouse=True)
def here(library: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(library.parent)
    monkeypatch.setenv("IMGREC_LIBRARY", str(library))
    return library.parent


FIRST = real_pictures()[0].name
NAMES = sorted(path.name for path in real_pictures()[:6])


def test_a_folder_stands_for_its_photos_and_a_bad_one_costs_itself(imgrec: Imgrec) -> None:
    ran = imgrec("search", "photos", "--top-k", 1, "--json")
    assert ran.code == 1
    assert [line["query"] for line in ran.lines] == [f"photos/{name}" for name in [*NAMES, "sub/copy.png"]]
    assert ran.err.splitlines() == [
        "imgrec: error: query photos/broken.jpg: the content is none of the image formats that are read"
    ]


def test_patterns_and_lists(imgrec: Imgrec, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = imgrec("search", f"photos/{FIRST[:3]}*.png", "photos/**/copy.*", "--top-k", 1, "--json")
    assert ran.code == 0
    assert [line["query"] for line in ran.lines] == [f"photos/{FIRST}", "photos/sub/copy.png"]
    (here / "list.txt").write_bytes(f"photos/{FIRST}\r\n\nid:2\n".encode())
    ran = imgrec("search", "id:1", "--files-from", here / "list.txt", "--top-k", 1, "--json")
    assert [line["query"] for line in ran.lines] == ["id:1", f"photos/{FIRST}", "id:2"]
    (here / "odd\nname.png").write_bytes(real_pictures()[0].read_bytes())
    (here / "list.nul").write_bytes(b"odd\nname.png\0id:2")
    ran = imgrec("search", "--files-from", here / "list.nul", "-0", "--top-k", 1, "--json")
    assert [line["query"] for line in ran.lines] == ["odd\nname.png", "id:2"]
    ran = imgrec("search", "*.tiff", "id:1", "--top-k", 1, "--json")
    assert (ran.code, len(ran.lines)) == (1, 1)
    assert ran.err == "imgrec: error: query *.tiff: no file matches this pattern\n"


def test_standard_input_is_a_picture(imgrec: Imgrec, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(real_pictures()[0].read_bytes())))
    ran = imgrec("search", "-", "--top-k", 1, "--json")
    assert (ran.code, ran.lines[0]["hits"][0]["path"]) == (0, FIRST)


def test_nothing_is_fetched_unless_it_is_asked_for(imgrec: Imgrec) -> None:
    ran = imgrec("search", "http://127.0.0.1:9/x.jpg")
    assert (ran.code, ran.out) == (1, "")
    assert "nothing is fetched from the web unless --urls says so" in ran.err
    ran = imgrec("search", "http://127.0.0.1:9/x.jpg", "--urls", "any")
    assert "cannot be fetched" in ran.err


def test_options_say_which_photos_may_be_hits(imgrec: Imgrec) -> None:
    def paths(*options: object) -> set[str]:
        ran = imgrec("search", "id:1", "--json", *options)
        assert (ran.code, ran.err) == (0, "")
        return {hit["path"] for hit in ran.lines[0]["hits"]}

    everything = {*NAMES, "sub/copy.png"}
    assert paths() == everything
    assert paths("--path", "sub/**", "--path", "c*") == {"sub/copy.png", *(n for n in NAMES if n.startswith("c"))}
    assert paths("--where", "id < 5", "--where", "width > 0", "--format", "png") == set(NAMES[:3])
    assert paths("--ids", "1,3..4") == {NAMES[0], NAMES[2]}
    assert paths("--size", "+1G") == paths("--taken", "2019") == paths("--camera", "canon*") == set()
    assert paths("--not-itself") == everything - {NAMES[0]}
    assert paths("--not-itself", "--collapse-copies") == set(NAMES[1:])
    ran = imgrec("search", "id:1", "--text", "x", "--where", "1")
    assert ran.code == 2


def test_people_are_told_of_copies_and_of_nothing_allowed(imgrec: Imgrec) -> None:
    ran = imgrec("search", "id:1", "--collapse-copies", "--top-k", 1)
    assert "copies" in ran.out
    assert ran.out.splitlines()[-2].split() == ["1", "1.000", "2", "1", NAMES[0]]
    assert "No photo of this index is one that the filter allows." in imgrec("search", "id:1", "--path", "x/**").out
    assert "copies" not in imgrec("search", "id:1").out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--where", "widht > 2"), "no such column: widht"),
        (("--taken", "may"), "no range of dates"),
        (("--size", "big"), "no range of sizes"),
        (("--format", "docx"), "no format that is read: there are jpeg"),
        (("--ids", "one"), "is no id"),
        (("--path", "#"), "is no pattern"),
    ],
)
def test_a_bad_option_is_one_line(imgrec: Imgrec, options: tuple[str, ...], said: str) -> None:
    ran = imgrec("search", "id:1", *options)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)
    assert said in ran.err


def test_the_flow_filters_too(through_prefect: None, library: Path) -> None:
    (answer,) = search_images(
        ["id:1"], library, filters={"where": "id < 5", "paths": ["*.png"]}, not_itself=True, collapse_copies=True
    )
    assert {hit.path for hit in answer.hits} == set(NAMES[1:3])
    assert all(hit.copies == 1 for hit in answer.hits)
