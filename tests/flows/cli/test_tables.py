"""What people see in a terminal of 80 columns: no name is broken."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from imgrec.embedders.models.store import ModelFile, StoredModel
from imgrec.flows.cli.lines import Column, print_lines
from imgrec.flows.cli.other_files import MOST_SUFFIXES, describe_other_files
from imgrec.flows.cli.summary import print_report
from imgrec.flows.cli.tables import print_answer, print_failures, print_garbage, print_models, print_rows
from imgrec.flows.pipeline.report import RunReport
from imgrec.search.answers import Answer, Hit
from imgrec.search.indexes.layout import Manifest, Member, SegmentEntry
from imgrec.search.indexes.updating import IndexReport
from imgrec.search.upkeep.unneeded import Garbage
from imgrec.storage.photos.roots import one_root
from imgrec.storage.registry.images import ImageRow
from tests.flows.conftest import Imgrec

NAMES = [
    "coffee-cropped.jpg",
    "Summer holidays 2019 in Norway/IMG_20190703_184512 (edited, cropped).png",
    "日本の写真 二千二十六年/夏休みの思い出 海と山とカメラ.png",
    "[red]/x " + "long " * 30 + ".png",
]
LONGEST_INDEX = "combo_color_sift_dreamsim_efficientnet_openclip"

Shown = Callable[[], list[str]]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shown:
    monkeypatch.setenv("COLUMNS", "80")
    return lambda: capsys.readouterr().out.splitlines()


def answer(paths: list[str]) -> Answer:
    scores = {"color": 0.5, "sift": None, "efficientnet": -0.25}
    hits = tuple(Hit(rank, 1_000 + rank, path, 0.5, scores, f"/{path}") for rank, path in enumerate(paths, 1))
    return Answer("id:1", "/photos", None, "combo_color_sift_efficientnet", "v", 64, hits, 0, 0, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_photo_keeps_its_line(shown: Shown, name: str) -> None:
    print_answer(answer([name]))
    (line,) = (line for line in shown() if line.endswith(name))
    assert "1001" in line
    assert cell_len(line) <= max(80, 20 + cell_len(name))


def test_scores_are_shown_where_there_is_room_and_else_it_is_said(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    print_answer(answer([NAMES[0]]))
    narrow = shown()
    assert narrow[2].split() == ["rank", "score", "color", "sift", "efficientnet", "id", "photo"]
    assert narrow[4].split() == ["1", "0.500", "0.500", "–", "-0.250", "1001", NAMES[0]]
    print_answer(answer([NAMES[0], NAMES[1][:34]]))
    assert shown()[2].split() == ["score", "color", "sift", "efficientnet", "id", "photo"]
    print_answer(answer([NAMES[1][:60]]))
    assert any("left out, since the terminal is narrow: rank, color, sift, efficientnet" in line for line in shown())
    monkeypatch.delenv("COLUMNS")  # a pipe
    print_answer(answer(NAMES))
    piped = shown()
    assert "efficientnet" in piped[2]
    assert [line for line in piped if line.endswith(".png") or line.endswith(".jpg")] == piped[4:8]


def test_wide_letters_are_counted_as_wide(shown: Shown) -> None:
    print_lines("写真", [Column("a"), Column("b", right=True), Column("c")], [("写真", "1", "x"), ("xy", "22", "y")])
    assert shown()[4:6] == ["  写真   1  x", "  xy    22  y"]


def test_no_line_ends_in_blanks_that_would_run_over(shown: Shown) -> None:
    print_answer(answer(NAMES))
    assert all(line == line.rstrip() for line in shown())


def test_a_failure_has_a_line_for_the_photo_and_one_for_the_reason(shown: Shown) -> None:
    huge = "2.2 GB are more than a picture has that can be decoded"
    rows = [ImageRow(number, name, None, "corrupt", "it is cut off") for number, name in enumerate(NAMES, 1)]
    print_failures([*rows, ImageRow(9, "huge.png", None, "too_large", huge)])
    lines = shown()
    for name in NAMES:
        place = next(place for place, line in enumerate(lines) if line.endswith(name))
        assert lines[place + 1].strip() == "corrupt: it is cut off"
    assert any("more than 2 GiB" in line for line in lines)
    assert not any("max-megapixels" in line for line in lines)


def test_garbage_and_models_and_rows_break_no_name(shown: Shown) -> None:
    what = f"indexes/{LONGEST_INDEX}/segments/20261127T052358-75a265a4"
    print_garbage([Garbage("index segment", what, 188_500, lambda: None)], deleted=False)
    assert any(line.endswith(what) for line in shown())
    name, licence = "ViT-L-14-quickgelu.openai", "MIT; the weights for research only"
    files = (ModelFile("weights", 9, "ab" * 32),)
    print_models(Path("/models"), [StoredModel(name, "openclip", 768, {}, licence, "", files, Path("/models/x"))])
    assert any(name in line and line.endswith(licence) for line in shown())
    print_rows(["id", "path", "content_hash"], [(number, name, "ab" * 32) for number, name in enumerate(NAMES)])
    lines = shown()
    assert all(f"          path  {name}" in lines for name in NAMES)
    print_rows(["id", "path"], [(1, NAMES[0])])
    assert shown()[-2].split() == ["1", NAMES[0]]


@pytest.mark.parametrize("count", [1, MOST_SUFFIXES, MOST_SUFFIXES + 3])
def test_what_is_left_alone_is_told_with_its_reason_and_nothing_is_kept_back(count: int) -> None:
    counts = {f".x{number}": number + 1 for number in range(count)}
    said = describe_other_files(
        {**counts, "symlink": 2, ".heic": 1, ".nef": 1, ".dng": 2, "macOS twin": 1, "something new": 3}
    )
    total = sum(counts.values())
    assert said.startswith(f"left alone: {total} {'file' if total == 1 else 'files'} not named as pictures are (")
    assert said.count(" .x") == min(count, MOST_SUFFIXES)
    assert ("6 of 3 other kinds that --json lists" in said) == (count > MOST_SUFFIXES)
    for part in (
        "2 symbolic links (not followed: --follow-links takes what they lead to)",
        "1 HEIC photo (read after `pip install 'image-recommender[heif]'`)",
        "3 camera's raw photos (read after `pip install 'image-recommender[raw]'`)",
        "1 `._` file of macOS (no pictures)",
        "3 something new (no photos)",
    ):
        assert part in said


def test_an_ingest_ends_with_what_comes_next(imgrec: Imgrec, photos: Path, tmp_path: Path, shown: Shown) -> None:
    library = tmp_path / "my [family] library"
    (photos / "broken.jpg").write_bytes(b"no picture")
    (photos / "notes.txt").write_text("x")
    lines = imgrec("ingest", photos, "--library", library).out.splitlines()
    last = lines[next(place for place, line in enumerate(lines) if line.startswith("Next: ")) :]
    assert last[:3] == [
        f"Next: imgrec search PHOTO --library '{library}'",
        f"      imgrec failures --library '{library}'   lists 1, with reasons",
        "left alone: 1 file not named as pictures are (1 .txt)",
    ]
    assert not any("MLflow run" in line or "compared one by one" in line for line in lines)
    (photos / "broken.jpg").unlink()
    (photos / "new.png").write_bytes((photos / "cell.png").read_bytes() + b"\0")
    verbose = imgrec("--verbose", "ingest", photos, "--library", library).out
    assert f"library: {library} (color)" in verbose
    assert "MLflow run: " in verbose
    assert "compared one by one" in verbose


def test_each_step_names_the_next(imgrec: Imgrec, photos: Path, library: Path) -> None:
    assert f"Next: imgrec embed --library {library}\n" in imgrec("scan", photos, "--library", library).out
    assert f"Next: imgrec index build --library {library}\n" in imgrec("embed", "--library", library).out
    assert f"Next: imgrec search PHOTO --library {library}\n" in imgrec("index", "build", "--library", library).out


@pytest.mark.parametrize("indexes", [[LONGEST_INDEX], ["color", "combo_color_sift_efficientnet"]])
def test_an_index_keeps_its_line(shown: Shown, indexes: list[str]) -> None:
    made = {"hnsw_m": 32, "ef_construction": 100, "ef_search": 64}
    segments = (SegmentEntry("s", "hnsw", 10_000_000),)
    manifest = Manifest(1, indexes[0], "v", "2026", (Member("color", "f", 512),), {}, made, segments)
    built = IndexReport(manifest, "unchanged", 0, 0, 9_999.0, 188_500_000_000, 0.99)
    images = {"ok": 1, "failed": 0, "missing": 0}
    report = RunReport(
        "/library",
        one_root("/photos"),
        ("color",),
        None,
        None,
        dict.fromkeys(indexes, built),
        images,
        {},
        {},
        {"index": 1.0},
    )
    print_report(report)
    lines = shown()
    for index in indexes:
        (line,) = (line for line in lines if f"  {index} " in line)
        assert "10,000,000" in line
        assert len(line) <= 84
