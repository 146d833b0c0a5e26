"""Scans of several roots: what is gone from one says nothing of the others."""

import os
import sqlite3
from pathlib import Path

import pytest

from imgrec.storage.errors import PhotoRootError, PhotosVanishedError
from imgrec.storage.library import create_library
from imgrec.storage.photos.roots import Roots
from imgrec.storage.photos.walk import Walking
from imgrec.storage.registry.identity import Identified
from imgrec.storage.registry.registry import Registry
from imgrec.storage.renaming import preview_names, rename_root
from imgrec.storage.scan import preview_scan
from tests.storage.pictures import Photos

RAW = b"nas/\xff.png"


@pytest.fixture
def photos(tmp_path: Path, registry: Registry) -> Photos:
    """`laptop`, `nas` and `usb`, with photos of equal paths."""
    photos = Photos(tmp_path / "photos", registry)
    for number, root in enumerate(("laptop", "nas", "usb")):
        for place, name in enumerate(("a.png", "sub/b.png")):
            photos.write(f"{root}/{name}", content=10 * number + place)
    photos.write(RAW, content=99)
    mount(photos, "usb", "nas", "laptop")
    return photos


def mount(photos: Photos, *names: str) -> None:
    photos.roots = Roots({name: str(photos.root / name) for name in names})


def test_photos_of_equal_paths_are_told_apart_by_their_roots(photos: Photos) -> None:
    assert photos.scan().identified == Identified(new=7)
    assert set(photos.ids()) == {
        "laptop/a.png", "laptop/sub/b.png", "nas/a.png", "nas/sub/b.png", "usb/a.png", "usb/sub/b.png",
        os.fsdecode(RAW),
    }  # fmt: skip
    report = photos.scan()
    assert (report.found, report.unchanged, photos.read) == (7, 7, [])


@pytest.mark.parametrize("unmounted", ["no folder", "empty", "a placeholder"])
@pytest.mark.parametrize("name", ["laptop", "nas", "usb"])
def test_a_root_that_is_not_mounted_is_left_alone(photos: Photos, name: str, unmounted: str) -> None:
    photos.scan()
    ids = photos.ids()
    (photos.root / name).rename(photos.root / "away")
    if unmounted != "no folder":
        (photos.root / name).mkdir()
    if unmounted == "a placeholder":
        (photos.root / name / "NOT-MOUNTED.txt").touch()
    gone, other = ("nas" if name == "usb" else "usb"), ("nas" if name == "laptop" else "laptop")
    photos.remove(f"{gone}/a.png")
    photos.write(f"{other}/new.png", content=50)
    report = photos.scan(max_missing_share=0)
    assert (list(report.left_alone), report.identified) == ([name], Identified(new=1, missing=1))
    assert photos.ids() == {**{key: ids[key] for key in ids if key != f"{gone}/a.png"}, f"{other}/new.png": 8}
    if unmounted != "no folder":
        (photos.root / name / "NOT-MOUNTED.txt").unlink(missing_ok=True)
        (photos.root / name).rmdir()
    (photos.root / "away").rename(photos.root / name)
    report = photos.scan()
    assert (report.left_alone, report.identified) == ({}, Identified())


def test_one_that_cannot_be_read_is_left_alone(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    photos.scan()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path) == str(photos.root / "nas"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert photos.scan().left_alone == {"nas": "it cannot be read (Permission denied)"}
    assert photos.missing() == []


def test_an_emptied_root_is_taken_for_empty_only_where_that_is_accepted(photos: Photos) -> None:
    photos.scan()
    photos.remove("usb/a.png", "usb/sub/b.png")
    assert photos.scan().identified == Identified()
    assert photos.scan(max_missing_share=1).identified == Identified(missing=2)
    (photos.root / "nas").rename(photos.root / "away")
    assert photos.scan(max_missing_share=1).identified == Identified()  # it is not even there


def test_where_no_root_is_there_the_scan_fails(photos: Photos) -> None:
    photos.scan()
    photos.root.rename(photos.root.with_name("away"))
    with pytest.raises(PhotoRootError, match=r"no folder of photos is there \(usb=.*: there is no such folder; nas="):
        photos.scan()
    for name in ("laptop", "nas", "usb"):
        (photos.root / name).mkdir(parents=True)
        (photos.root / name / "x.txt").touch()
    with pytest.raises(PhotoRootError, match="no photo is in it any more"):
        photos.scan()
    assert photos.missing() == []


def test_a_share_is_one_of_its_root(photos: Photos) -> None:
    """20 of 25 on the stick are few of all, and yet it looks as if it had been damaged."""
    photos.write(*(f"usb/{number}.png" for number in range(23)), content=1)
    photos.write(*(f"nas/{number}.png" for number in range(100)), content=2)
    photos.scan()
    photos.remove(*(f"usb/{number}.png" for number in range(20)))
    before = photos.ids()
    with pytest.raises(PhotosVanishedError, match=r"20 of 25 photos are gone from usb=/.*--accept-missing"):
        photos.scan()
    assert photos.ids() == before
    assert photos.scan(max_missing_share=1).identified == Identified(missing=20)


def test_photos_that_move_from_root_to_root_keep_their_ids(photos: Photos) -> None:
    photos.write(*(f"usb/{number}.png" for number in range(30)), content=7)
    photos.scan()
    ids = photos.ids()
    for number in range(30):
        photos.move(f"usb/{number}.png", f"laptop/from/{number}.png")
    photos.move("nas/a.png", "laptop/c.png")
    assert photos.scan().identified == Identified(moved=31)
    assert photos.ids()["laptop/c.png"] == ids["nas/a.png"]
    assert [photos.ids()[f"laptop/from/{number}.png"] for number in range(30)] == [
        ids[f"usb/{number}.png"] for number in range(30)
    ]


def test_one_that_moved_to_a_root_that_was_away_keeps_its_id(photos: Photos) -> None:
    photos.scan()
    ids = photos.ids()
    photos.move("laptop/a.png", "usb/c.png")
    (photos.root / "usb").rename(photos.root / "away")
    assert photos.scan().identified == Identified(missing=1)
    (photos.root / "away").rename(photos.root / "usb")
    assert photos.scan().identified == Identified(moved=1)
    assert photos.ids()["usb/c.png"] == ids["laptop/a.png"]


def test_a_removed_root_takes_its_photos_along_and_brings_them_back(photos: Photos) -> None:
    photos.scan()
    ids = photos.ids()
    for name in ("nas", "laptop", "usb"):
        mount(photos, *{"nas", "laptop", "usb"} - {name})
        count = sum(key.startswith(f"{name}/") for key in ids)
        assert photos.scan(max_missing_share=0).identified == Identified(excluded=count)
        assert photos.ids() == {key: ids[key] for key in ids if not key.startswith(f"{name}/")}
        mount(photos, "nas", "laptop", "usb")
        assert photos.scan().identified == Identified(returned=count)
        assert photos.ids() == ids


def test_a_root_of_links_is_not_empty(photos: Photos, tmp_path: Path) -> None:
    following = Walking(follow_links=True)
    (tmp_path / "links").mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        photos.write(f"elsewhere/{name}", content=30 + number)
        (tmp_path / "links" / name).symlink_to(photos.path(f"elsewhere/{name}"))
    photos.roots = Roots({**photos.roots.folders, "links": str(tmp_path / "links")})
    assert photos.scan(walking=following).identified == Identified(new=9)
    report = photos.scan(walking=following)
    assert (report.left_alone, report.unchanged, photos.read) == ({}, 9, [])
    (tmp_path / "links" / "a.png").unlink()
    assert photos.scan(walking=following).identified == Identified(missing=1)


# Names


def paths(registry: Registry) -> dict[int, tuple[str, bytes | None]]:
    rows = registry.connection.execute("SELECT id, path, raw_path FROM images")
    return {row[0]: row[1:] for row in rows}


def test_naming_the_only_root_renames_all_paths_and_reads_nothing(tmp_path: Path, registry: Registry) -> None:
    photos = Photos(tmp_path / "photos", registry)
    # A folder of the new name, with photos that `a.png` would get in the way of.
    photos.write("a.png", "pics/a.png", "pics/pics/a.png", "z.png", b"\xff.png", content=1)
    photos.write("gone.png", content=2)
    photos.scan()
    photos.remove("gone.png")
    photos.scan()
    before = paths(registry)
    indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name"
    made = registry.connection.execute(indexes).fetchall()
    for _ in range(2):
        rename_root(registry, "", "pics")
        assert paths(registry) == {
            image_id: (f"pics/{path}", raw and b"pics/" + raw) for image_id, (path, raw) in before.items()
        }
    assert registry.connection.execute(indexes).fetchall() == made
    assert registry.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    photos.roots = Roots({"pics": str(photos.root)})
    report = photos.scan()
    assert (report.identified, report.unchanged, photos.read) == (Identified(), 5, [])
    photos.write("gone.png", content=2)
    assert photos.scan().identified == Identified(returned=1)


def test_a_preview_of_names_shows_what_renaming_would_leave(photos: Photos, registry: Registry, tmp_path: Path) -> None:
    photos.scan()
    before = paths(registry)
    library = create_library(tmp_path / "library", photos.roots, ("color",), {})
    folders = {"laptop": str(photos.root / "laptop"), "n": str(photos.root / "nas"), "usb": str(photos.root / "usb")}
    renamed = library.with_roots(Roots(folders, {"nas": "n"}))
    with Registry.open_for_reading(tmp_path / "registry.sqlite") as reader:
        preview_names(renamed, reader)
        compared, _ = preview_scan(reader, renamed.roots)
        assert (compared.found, compared.unchanged, compared.excluded) == (7, 7, 0)
        by_path = "SELECT id FROM images WHERE missing_since IS NULL AND ifnull(raw_path, path) = 'x'"
        assert "images_path" in reader.connection.execute(f"EXPLAIN QUERY PLAN {by_path}").fetchone()[3]
    assert paths(registry) == before


def test_renaming_one_of_several_leaves_the_others(photos: Photos, registry: Registry) -> None:
    photos.scan()
    before, ids = paths(registry), photos.ids()
    for _ in range(2):
        rename_root(registry, "nas", "n")
    assert {image_id for image_id, row in paths(registry).items() if row != before[image_id]} == {
        ids[name] for name in ids if name.startswith("nas/")
    }
    photos.roots = Roots(
        {"laptop": str(photos.root / "laptop"), "n": str(photos.root / "nas"), "usb": str(photos.root / "usb")}
    )
    report = photos.scan()
    assert (report.identified, report.unchanged, photos.read) == (Identified(), 7, [])


def test_a_name_that_a_removed_root_had_can_be_given_again(photos: Photos, registry: Registry) -> None:
    photos.scan()
    ids = photos.ids()
    rename_root(registry, "nas", "usb")  # before any scan has marked those of usb missing
    photos.roots = Roots({"laptop": str(photos.root / "laptop"), "usb": str(photos.root / "nas")})
    report = photos.scan()
    assert (report.identified, photos.read) == (Identified(), [])
    assert photos.ids()["usb/a.png"] == ids["nas/a.png"]


def test_what_a_killed_scan_has_read_is_not_read_again_under_a_new_name(photos: Photos, registry: Registry) -> None:
    def die(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        photos.scan(on_read=die)
    rename_root(registry, "nas", "n")
    photos.roots = Roots({"n": str(photos.root / "nas")})
    photos.scan()
    assert photos.read == []


def test_a_renaming_that_is_killed_changes_nothing(photos: Photos, registry: Registry) -> None:
    photos.scan()
    before = paths(registry)
    registry.connection.set_authorizer(
        lambda action, table, *_: sqlite3.SQLITE_DENY if (action, table) == (sqlite3.SQLITE_INSERT, "probes") else 0
    )
    with pytest.raises(sqlite3.DatabaseError):
        rename_root(registry, "nas", "n")
    registry.connection.set_authorizer(None)
    assert paths(registry) == before
    assert photos.scan().unchanged == 7
