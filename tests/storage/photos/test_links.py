"""Symbolic links: left and counted, or followed on request, once each."""

import os
from pathlib import Path

import pytest
from PIL import Image

from imgrec.embedders.work import worker
from imgrec.embedders.work.worker import embed_chunk
from imgrec.storage.photos.roots import one_root
from imgrec.storage.photos.walk import Walking, WalkReport, walk_photos
from imgrec.storage.scan import preview_scan
from tests.embedders.work.test_worker import scan, write_chunk
from tests.storage.pictures import InProcess, Photos, picture

FOLLOWING = Walking(follow_links=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with two photos, and beside it another with two."""
    for name in ("root/a.png", "root/sub/b.png", "outside/c.png", "outside/deep/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture(ord(name[-5])))
    return tmp_path / "root"


def followed(root: Path, *exclude: str) -> tuple[list[str], dict[str, int]]:
    report = WalkReport()
    paths = [file.path for file in walk_photos(root, report, Walking(exclude, follow_links=True))]
    return paths, dict(report.other_files)


def test_links_are_left_and_counted_unless_asked_for(root: Path) -> None:
    (root / "link.png").symlink_to(root.parent / "outside" / "c.png")
    (root / "folder").symlink_to(root.parent / "outside")
    report = WalkReport()
    assert [file.path for file in walk_photos(root, report)] == ["a.png", "sub/b.png"]
    assert report.other_files == {"symlink": 2}


def test_files_and_folders_outside_are_taken(root: Path) -> None:
    (root / "link.png").symlink_to(root.parent / "outside" / "c.png")
    (root / "folder").symlink_to("../outside/deep")
    assert followed(root) == (["a.png", "sub/b.png", "folder/d.png", "link.png"], {})
    (found,) = [file for file in walk_photos(root, WalkReport(), FOLLOWING) if file.path == "link.png"]
    assert found.size == (root.parent / "outside" / "c.png").stat().st_size


def test_what_is_here_already_keeps_its_own_path(root: Path) -> None:
    (root / "0.png").symlink_to("sub/b.png")
    (root / "1").symlink_to("sub")
    (root / "2").symlink_to(".")
    (root / "sub" / "up").symlink_to("..")
    (root / "sub" / "self").symlink_to("self")
    assert followed(root) == (["a.png", "sub/b.png"], {"broken symlink": 1, "symlink to what is here already": 1})


def test_two_links_to_one_photo_are_one_photo(root: Path) -> None:
    for name in ("x.png", "y.png"):
        (root / name).symlink_to(root.parent / "outside" / "c.png")
    for name in ("f", "g"):
        (root / name).symlink_to(root.parent / "outside" / "deep")
    (root / "z.png").symlink_to(root / "f" / "d.png")
    double = {"symlink to what is here already": 2}
    assert followed(root) == (["a.png", "sub/b.png", "f/d.png", "x.png"], double)


def test_links_behind_links_are_followed_and_loops_end(root: Path) -> None:
    (root / "out").symlink_to(root.parent / "outside")
    (root.parent / "outside" / "back").symlink_to(root)
    (root.parent / "outside" / "more").symlink_to(root.parent / "further")
    (root.parent / "further").mkdir()
    (root.parent / "further" / "e.png").write_bytes(picture(1))
    (root.parent / "further" / "again").symlink_to(root.parent)
    paths, others = followed(root)
    assert paths == ["a.png", "sub/b.png", "out/c.png", "out/deep/d.png", "out/more/e.png"]
    assert others == {}


def test_a_photo_of_git_annex_is_its_link(root: Path) -> None:
    """The file itself lies in a hidden folder inside of the root."""
    key = root / ".git" / "annex" / "objects" / "SHA256E-s1--abc.png" / "SHA256E-s1--abc.png"
    key.parent.mkdir(parents=True)
    key.write_bytes(picture(9))
    key.chmod(0o444)
    (root / "holiday.png").symlink_to(os.path.relpath(key, root))
    (root / "gone.png").symlink_to(".git/annex/objects/not/here.png")
    assert followed(root) == (["a.png", "sub/b.png", "holiday.png"], {"broken symlink": 1})


def test_links_to_other_things_are_no_photos(root: Path) -> None:
    os.mkfifo(root.parent / "pipe")
    (root / "pipe.png").symlink_to(root.parent / "pipe")
    (root / "film.png.mp4").symlink_to(root / "a.png")
    assert followed(root) == (["a.png", "sub/b.png"], {"device, socket or pipe": 1, ".mp4": 1})


def test_rules_hold_for_the_path_of_the_link(root: Path) -> None:
    (root / "out").symlink_to(root.parent / "outside")
    (root / "link.png").symlink_to(root.parent / "outside" / "c.png")
    assert followed(root, "out/deep/") == (["a.png", "sub/b.png", "out/c.png"], {"symlink to what is here already": 1})
    assert followed(root, "out", "link.*")[0] == ["a.png", "sub/b.png"]
    (root.parent / "outside" / ".imgrecignore").write_text("c.png")
    assert followed(root)[0] == ["a.png", "sub/b.png", "out/deep/d.png"]  # nor by another way


def test_linked_photos_are_scanned_embedded_and_seen_changing(photos: Photos, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.png"
    target.write_bytes(picture(1))
    os.utime(target, (1_600_000_000, 1_600_000_000))
    photos.path("link.png").symlink_to(target)
    assert photos.scan().found == 0
    assert photos.scan(walking=FOLLOWING).identified.new == 1
    assert photos.status("link.png") == "ok"
    assert (photos.scan(walking=FOLLOWING).unchanged, photos.read) == (1, [])
    target.write_bytes(picture(2))
    assert photos.scan(walking=FOLLOWING).identified.changed == 1
    comparison, _ = preview_scan(photos.registry, one_root(photos.root))
    assert (comparison.gone, comparison.excluded) == (1, 0)


def test_a_worker_follows_only_where_the_library_does(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "a.png")
    pending = scan(tmp_path / "photos")
    (tmp_path / "photos" / "a.png").rename(tmp_path / "a.png")
    (tmp_path / "photos" / "a.png").symlink_to(tmp_path / "a.png")
    assert embed_chunk(write_chunk(tmp_path, pending), InProcess(), 1).changed == ("a.png",)
    worker._load.cache_clear()  # this process would remember the chunk, whose name says nothing of links
    assert embed_chunk(write_chunk(tmp_path, pending, follow_links=True), InProcess(), 1).embedded == 1
