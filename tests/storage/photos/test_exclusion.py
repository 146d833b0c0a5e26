"""What is left out of a library: litter, what patterns name, and what becomes of photos that were in it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgrec.storage.errors import IgnoreFileError
from imgrec.storage.library import create_library, open_library
from imgrec.storage.photos.exclusion import parse_patterns
from imgrec.storage.photos.roots import one_root
from imgrec.storage.photos.walk import Walking, WalkReport, walk_photos
from imgrec.storage.scan import preview_scan
from tests.storage.pictures import Photos

LITTER = [
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", ".thumbnails/a.png", "x/#recycle/a.png", ".stversions/a.png",
    "lost+found/a.png", "$RECYCLE.BIN/a.png", "$Recycle.Bin/a.png", "System Volume Information/a.png",
    ".Trash-1000/files/a.png", "__MACOSX/a.png", ".git/a.png", "._a.png", "x/._b.png",
]  # fmt: skip


def found(root: Path, *exclude: str) -> list[str]:
    return [file.path for file in walk_photos(root, WalkReport(), Walking(exclude))]


def write(root: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_litter_is_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "x/.hidden.png", "eaDir/a.png", "x/recycle/a.png", *LITTER)
    report = WalkReport()
    paths = [file.path for file in walk_photos(tmp_path, report)]
    assert paths == ["a.png", "eaDir/a.png", "x/.hidden.png", "x/recycle/a.png"]
    assert report.left_out == {
        "@eaDir/": 1, ".*/": 4, "#recycle/": 1, "lost+found/": 1, "$RECYCLE.BIN/": 1, "$Recycle.Bin/": 1,
        "System Volume Information/": 1, "__MACOSX/": 1,
    }  # fmt: skip
    assert report.other_files == {"macOS twin": 2}


def test_a_twin_that_a_pattern_takes_in_is_a_file_like_others(tmp_path: Path) -> None:
    write(tmp_path, "._a.png", "._b.txt", "x/._a.png")
    report = WalkReport()
    assert [file.path for file in walk_photos(tmp_path, report, Walking(("!/._*",)))] == ["._a.png"]
    assert report.other_files == {".txt": 1, "macOS twin": 1}


def test_a_hidden_root_is_no_litter(tmp_path: Path) -> None:
    write(tmp_path / ".photos", "a.png")
    assert found(tmp_path / ".photos") == ["a.png"]


def test_patterns_add_to_that_and_may_take_it_back(tmp_path: Path) -> None:
    write(
        tmp_path, "a.png", "a.tmp.png", "raw/b.png", "x/raw/c.png", "x/top.png", "top.png", ".own/d.png", ".git/e.png"
    )
    assert found(tmp_path, "raw/", "*.tmp.png", "/top.png") == ["a.png", "x/top.png"]
    assert found(tmp_path, "/raw") == ["a.png", "a.tmp.png", "top.png", "x/raw/c.png", "x/top.png"]
    assert found(tmp_path, "*", "!.own/", "!.own/*") == [".own/d.png"]
    assert found(tmp_path, "!.own/", "raw", "top.png") == [".own/d.png", "a.png", "a.tmp.png"]


def test_ignore_files_hold_below_their_folder(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png", "x/a.png", "x/b.png", "x/y/a.png", "x/y/b.png")
    write(tmp_path, "x/.imgrecignore", content=b"# mine\n\na.png\n")
    write(tmp_path, "x/y/.imgrecignore", content=b"!a.png\r\n/b.png\n")
    report = WalkReport()
    assert [file.path for file in walk_photos(tmp_path, report)] == ["a.png", "b.png", "x/b.png", "x/y/a.png"]
    assert (report.left_out, report.other_files) == ({"a.png": 1, "/b.png": 1}, {})
    assert found(tmp_path, "y/a.png") == ["a.png", "b.png", "x/b.png", "x/y/a.png"]
    assert found(tmp_path, "x/y/a.png", "!x/a.png") == ["a.png", "b.png", "x/a.png", "x/b.png"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"ok/\n!\n", "line 2, '!', is no pattern"), (b"[z-a]", "line 1,"), (b"a" * (2**24 + 1), "File too large")],
)
def test_an_ignore_file_that_is_none_ends_the_walk(tmp_path: Path, content: bytes, said: str) -> None:
    write(tmp_path, "x/a.png")
    write(tmp_path, "x/.imgrecignore", content=content)
    with pytest.raises(IgnoreFileError, match=f"x/.imgrecignore: {said}.*: mend it, or take it away"):
        found(tmp_path)


def test_names_that_are_not_utf8_match(tmp_path: Path) -> None:
    write(tmp_path, "caf\udce9/a.png", "b\udce9.png")
    write(tmp_path, ".imgrecignore", content=b"caf\xe9/\n")
    assert found(tmp_path) == ["b\udce9.png"]
    assert found(tmp_path, "b*") == []


NAMES = st.sampled_from(["a", "b", "ab"])
PATTERNS = st.lists(
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "", "!"]),
        st.sampled_from(["", "/", "**/"]),
        st.lists(st.sampled_from(["a", "b", "*", "a*", "?b", "**"]), min_size=1, max_size=3).map("/".join),
        st.sampled_from(["", "/", ".png", "/**"]),
    ).filter(lambda line: not line.endswith("**/") and "**/**" not in line),  # which pathspec takes for a/
    max_size=4,
)


@pytest.mark.skipif(shutil.which("git") is None, reason="compares with git")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_lines=PATTERNS, root_lines=PATTERNS, below_lines=PATTERNS)
def test_it_leaves_out_what_git_ignores(
    tmp_path: Path, given_lines: list[str], root_lines: list[str], below_lines: list[str]
) -> None:
    """A tree of two levels of folders, with ignore files in the root and in a."""
    root = tmp_path / "tree"
    if not root.exists():
        write(root, *(f"{x}{y}{z}.png" for x in ("", "a/", "b/", "ab/") for y in ("", "a/", "b/") for z in ("a", "ab")))
        subprocess.run(["git", "init", "-q", root], check=True)
    for folder, lines in ((root, root_lines), (root / "a", below_lines)):
        for name in (".gitignore", ".imgrecignore"):
            (folder / name).write_text("\n".join(lines))
    command = ["git", "-C", str(root), "ls-files", "--others", "--exclude-per-directory=.gitignore"]
    command += [f"--exclude={line}" for line in given_lines]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert sorted(found(root, *given_lines)) == sorted(name for name in listed if name.endswith(".png"))


# In a library


def test_a_photo_that_is_excluded_later_leaves_and_comes_back_as_itself(photos: Photos) -> None:
    names = [f"raw/{number}.png" for number in range(30)]
    for number, name in enumerate(names):
        photos.write(name, content=number)
    photos.write("a.png", "caf\udce9/b.png", content=100)
    photos.scan()
    before = photos.ids()
    excluding = Walking(("raw/", "caf*"))

    comparison, report = preview_scan(photos.registry, one_root(photos.root), excluding)
    assert (comparison.gone, comparison.excluded, report.left_out) == (0, 31, {"raw/": 1, "caf*": 1})
    done = photos.scan(max_missing_share=0, walking=excluding)  # nothing is gone

    assert (done.identified.missing, done.identified.excluded) == (0, 31)
    assert photos.ids() == {"a.png": before["a.png"]}
    assert len(photos.missing()) == 31  # known as missing photos are, vectors and all
    assert photos.scan(walking=excluding).identified.excluded == 0

    back = photos.scan()
    assert (back.identified.returned, back.identified.new) == (31, 0)
    assert photos.ids() == before


def test_what_is_gone_and_what_is_excluded_are_told_apart(photos: Photos) -> None:
    photos.write("raw/a.png", content=1)
    photos.write("raw/b.png", content=2)
    photos.write("c.png", content=3)
    photos.write("d.tmp.png", content=4)
    photos.write("e.png", content=5)
    photos.scan()
    photos.remove("c.png")
    photos.move("e.png", "f.png")
    done = photos.scan(walking=Walking(("raw", "*.tmp.png"))).identified
    assert (done.missing, done.excluded, done.moved, done.new) == (1, 3, 1, 0)


def test_a_photo_that_moves_into_an_excluded_folder_is_missing(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.write("b.png", content=2)
    photos.scan()
    photos.move("a.png", "raw/a.png")
    done = photos.scan(walking=Walking(("raw/",))).identified
    assert (done.missing, done.excluded) == (1, 0)


def test_a_library_remembers_and_one_without_reads_as_before(tmp_path: Path) -> None:
    made = create_library(tmp_path / "a", tmp_path, ("color",), {}, Walking(("raw/",), True))
    assert open_library(made.root).walking == Walking(("raw/",), True)
    plain = create_library(tmp_path / "b", tmp_path, ("color",), {})
    assert open_library(plain.root).walking == Walking()
    assert "exclude" not in (plain.root / "library.json").read_text()  # so that older versions open it


def test_what_is_no_pattern_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 2, '!', is no pattern of gitignore"):
        parse_patterns(["a", "!"])
    assert os.listdir(tmp_path) == []
