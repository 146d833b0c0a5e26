"""The folders of photos of a library, by name."""

import os
from pathlib import Path

import pytest

from imgrec.storage.photos.roots import Roots, find_nested, is_root_name, one_root
from imgrec.storage.photos.walk import Walking, WalkReport, walk_roots

TWO = Roots({"nas": "/mnt/nas", "laptop": "/home/me/Pictures"})


def test_a_path_begins_with_the_name_of_its_root() -> None:
    assert TWO.place("nas/2019/a.jpg") == ("/mnt/nas/2019/a.jpg", "/mnt/nas")
    assert TWO.locate("laptop/a.jpg") == Path("/home/me/Pictures/a.jpg")
    assert (TWO.name_of("nas/nas/a.jpg"), TWO.find("nas/nas/a.jpg")) == ("nas", "/mnt/nas/nas/a.jpg")
    assert str(TWO) == "nas=/mnt/nas, laptop=/home/me/Pictures"
    raw = os.fsdecode(b"nas/\xff.jpg")
    assert TWO.find(raw) == os.fsdecode(b"/mnt/nas/\xff.jpg")


def test_what_is_of_no_root_has_no_file() -> None:
    assert (TWO.find("usb/a.jpg"), TWO.name_of("usb/a.jpg")) == (None, None)
    assert TWO.find("nashville/a.jpg") is None
    with pytest.raises(FileNotFoundError, match=r"usb/a\.jpg"):
        TWO.locate("usb/a.jpg")


def test_one_root_needs_no_name() -> None:
    assert one_root("/").find("nas/a.jpg") == "/nas/a.jpg"
    assert (one_root("/photos").only, TWO.only) == ("/photos", None)


def test_former_names_are_understood_until_the_registry_has_the_present_ones() -> None:
    named = Roots({"laptop": "/pics", "nas": "/nas"}, {"": "laptop"})
    assert [named.find(path) for path in ("a.jpg", "sub/a.jpg", "laptop/a.jpg", "nas/a.jpg")] == [
        "/pics/a.jpg", "/pics/sub/a.jpg", "/pics/a.jpg", "/nas/a.jpg",
    ]  # fmt: skip
    assert Roots({"fast": "/nas"}, {"nas": "fast"}).find("nas/a.jpg") == "/nas/a.jpg"


@pytest.mark.parametrize("name", ["nas", "NAS-2", "a.b", "fotos_öö", "2019"])
def test_names_of_roots(name: str) -> None:
    assert is_root_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-x", "a/b", "a b", "a=b", "a\n", "nas:"])
def test_no_names_of_roots(name: str) -> None:
    assert not is_root_name(name)


def test_a_root_inside_of_another_is_found() -> None:
    assert find_nested(["/a/b", "/a", "/c"]) == ("/a/b", "/a")
    assert find_nested(["/a/b/c", "/x", "/a/b-c", "/a/b"]) == ("/a/b/c", "/a/b")
    assert find_nested(["/a", "/a"]) == ("/a", "/a")
    assert find_nested(["/a/b", "/a/bc", "/a-b"]) is None
    assert find_nested(["/", "/a"]) == ("/a", "/")


def test_a_walk_comes_in_the_order_of_paths_whatever_the_names(tmp_path: Path) -> None:
    names = ["a", "a-b", "a.b", "a0", "B", "é"]
    for name in names:
        for file in ("x.png", "sub/y.png"):
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).touch()
    roots = Roots({name: str(tmp_path / name) for name in names})
    paths = [file.path for _, files in walk_roots(roots, WalkReport()) for file in files]
    assert paths == sorted(f"{name}/{file}" for name in names for file in ("x.png", "sub/y.png"))


def test_rules_hold_in_every_root_as_they_did_in_one(tmp_path: Path) -> None:
    for name in ("nas", "laptop"):
        for file in ("top/a.png", "sub/top/a.png", "b.png", "skip.png"):
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).touch()
    (tmp_path / "nas" / ".imgrecignore").write_text("/skip.png\n")
    roots = Roots({name: str(tmp_path / name) for name in ("nas", "laptop")})
    report = WalkReport()
    paths = [file.path for _, files in walk_roots(roots, report, Walking(("/top/",))) for file in files]
    assert paths == ["laptop/b.png", "laptop/skip.png", "laptop/sub/top/a.png", "nas/b.png", "nas/sub/top/a.png"]
    assert report.left_out == {"/top/": 2, "/skip.png": 1}


def test_a_link_from_root_to_root_leads_to_what_is_there_already(tmp_path: Path) -> None:
    for name in ("laptop", "nas"):
        (tmp_path / name).mkdir()
    (tmp_path / "nas" / "a.png").touch()
    (tmp_path / "laptop" / "link.png").symlink_to(tmp_path / "nas" / "a.png")
    (tmp_path / "laptop" / "all").symlink_to(tmp_path / "nas")
    roots = Roots({name: str(tmp_path / name) for name in ("nas", "laptop")})
    report = WalkReport()
    walked = walk_roots(roots, report, Walking(follow_links=True))
    assert [file.path for _, files in walked for file in files] == ["nas/a.png"]
    # Where the folder that has it is not mounted, the link leads to it all the same.
    without = WalkReport(left_alone={"nas": "it is empty"})
    walked = walk_roots(roots, without, Walking(follow_links=True))
    assert [file.path for _, files in walked for file in files] == ["laptop/all/a.png"]
