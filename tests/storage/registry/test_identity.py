"""DESIGN's identity table, line by line, on real files."""

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from imgrec.storage.errors import PhotoRootError, PhotosVanishedError
from imgrec.storage.mirror import mirror_shards
from imgrec.storage.photos.roots import one_root
from imgrec.storage.photos.walk import WalkReport
from imgrec.storage.registry.comparison import compare
from imgrec.storage.registry.failures import forget_failures
from imgrec.storage.registry.identity import Identified
from imgrec.storage.registry.registry import Registry
from imgrec.storage.scan import FILES_PER_PROBE, foresee_refusal, preview_scan
from imgrec.storage.shards import OF_ONE_MODALITY, Failure
from tests.storage.pictures import Photos, picture
from tests.storage.rows import make_shard, register, write

ENOUGH = 20  # photos, for a share of them to say something


def fail(photos: Photos, content: int, status: str = "corrupt") -> None:
    """Let the content be one that an ingest could not embed."""
    failure = Failure(hashlib.sha256(picture(content)).digest(), status, "why")
    register(photos.registry)
    mirror_shards(photos.registry, photos.root.parent, [write(photos.root.parent, make_shard(failures=(failure,)))])


# Path and hash as before


def test_new_photos_get_rows_in_the_order_of_their_paths(photos: Photos) -> None:
    for number, name in enumerate(("b.png", "a.png", "sub/c.JPG")):
        photos.write(name, content=number)
    assert photos.scan().identified == Identified(new=3)
    assert photos.ids() == {"a.png": 1, "b.png": 2, "sub/c.JPG": 3}


def test_unchanged_photos_are_not_even_opened(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.write("sub/b.png", content=2)
    photos.scan()
    assert photos.read == ["a.png", "sub/b.png"]
    report = photos.scan()
    assert photos.read == []
    assert (report.found, report.unchanged, report.identified) == (2, 2, Identified())


def test_a_touched_photo_is_read_once_and_keeps_its_id(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.scan()
    os.utime(photos.path("a.png"), ns=(0, 1_500_000_000_000_000_000))
    assert photos.scan().identified == Identified()
    assert photos.read == ["a.png"]
    photos.scan()
    assert photos.read == []
    assert photos.ids() == {"a.png": 1}


def test_a_photo_as_young_as_its_scan_is_read_again(photos: Photos) -> None:
    photos.write("old.png", content=1)
    photos.path("young.png").write_bytes(picture(2))
    photos.scan()
    photos.scan()
    assert photos.read == ["young.png"]
    assert photos.ids() == {"old.png": 1, "young.png": 2}


@pytest.mark.parametrize("year", [1900, 1950, 2100, 2262, 2300, 30_000])
def test_a_photo_of_any_date_is_read_once(photos: Photos, year: int) -> None:
    photos.write("a.png", content=1)
    os.utime(photos.path("a.png"), ns=(0, int((year - 1970) * 365.2425 * 86_400) * 1_000_000_000))
    assert photos.scan().identified == Identified(new=1)
    (modified,) = photos.registry.connection.execute("SELECT mtime_ns / 1e9 FROM images").fetchone()
    assert abs(modified - min(photos.path("a.png").stat().st_mtime, 9_223_372_036)) < 1
    photos.scan()
    assert photos.read == []


@pytest.mark.parametrize("days", [0.5, 2])
def test_a_photo_is_read_again_where_the_clock_that_dated_it_may_be_ahead(photos: Photos, days: float) -> None:
    photos.write("a.png", content=1)
    os.utime(photos.path("a.png"), (0, time.time() + days * 86_400))
    photos.scan()
    photos.scan()
    assert photos.read == (["a.png"] if days < 1 else [])


def test_what_failed_is_read_again_though_it_is_dated_before_1970(photos: Photos) -> None:
    photos.write("a.png", content=1)
    os.utime(photos.path("a.png"), (0, -1e9))
    fail(photos, 1)
    photos.scan()
    forget_failures(photos.registry, photos.root.parent, [hashlib.sha256(picture(1)).digest()])
    photos.scan()
    assert photos.read == ["a.png"]


# New path, hash of a row that is missing


def test_a_moved_photo_keeps_its_id(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.write("b.png", content=2)
    photos.scan()
    photos.move("a.png", "z/renamed.png")
    assert photos.scan().identified == Identified(moved=1)
    assert photos.ids() == {"z/renamed.png": 1, "b.png": 2}
    assert photos.read == ["z/renamed.png"]
    photos.scan()
    assert photos.read == []


def test_a_renamed_folder_keeps_all_its_ids(photos: Photos) -> None:
    for number in range(ENOUGH):
        photos.write(f"2024/{number:02}.png", content=number)
    photos.scan()
    before = photos.ids()
    photos.move("2024", "holiday")
    assert photos.scan(max_missing_share=0).identified == Identified(moved=ENOUGH)
    assert photos.ids() == {name.replace("2024", "holiday"): image_id for name, image_id in before.items()}


def test_of_several_missing_rows_the_one_of_the_same_file_name_comes_first(photos: Photos) -> None:
    photos.write("a/one.png", "b/two.png", content=1)
    photos.scan()
    photos.remove("a/one.png", "b/two.png")
    photos.scan(max_missing_share=1)
    photos.write("c/two.png", content=1)
    assert photos.scan().identified == Identified(moved=1)
    assert photos.ids() == {"c/two.png": 2}


def test_of_several_missing_rows_without_that_name_the_lowest_id_comes_first(photos: Photos) -> None:
    photos.write("a.png", "b.png", "c.png", content=1)
    photos.scan()
    photos.remove("a.png", "b.png", "c.png")
    photos.scan(max_missing_share=1)
    photos.write("new.png", content=1)
    photos.scan()
    photos.write("again.png", content=1)
    photos.scan()
    assert photos.ids() == {"new.png": 1, "again.png": 2}
    assert photos.missing() == [3]


def test_the_same_path_comes_before_the_same_file_name(photos: Photos) -> None:
    photos.write("a/x.png", "b/x.png", content=1)
    photos.scan()
    photos.remove("a/x.png", "b/x.png")
    photos.scan(max_missing_share=1)
    photos.write("b/x.png", content=1)
    photos.scan()
    assert photos.ids() == {"b/x.png": 2}


# New path, hash of a row that is still there


def test_a_copy_gets_an_id_of_its_own(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.scan()
    photos.write("copy.png", content=1)
    assert photos.scan().identified == Identified(copied=1)
    assert photos.ids() == {"a.png": 1, "copy.png": 2}


def test_equal_photos_of_one_scan_are_one_new_and_its_copies(photos: Photos) -> None:
    photos.write("a.png", "b.png", "c.png", content=1)
    assert photos.scan().identified == Identified(new=1, copied=2)


def test_a_copy_of_a_corrupt_photo_is_corrupt_too(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.scan()
    fail(photos, content=1)
    photos.write("copy.png", content=1)
    photos.scan()
    assert photos.status("copy.png") == "corrupt"


def test_a_move_and_a_copy_at_once_keep_the_id_once(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.scan()
    photos.move("a.png", "m/b.png")
    photos.write("n/a.png", content=1)
    assert photos.scan().identified == Identified(copied=1, moved=1)
    assert photos.ids() == {"n/a.png": 1, "m/b.png": 2}


# Same path, other hash


def test_changed_content_is_a_new_image_and_the_old_row_is_missing(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.scan()
    photos.write("a.png", content=2)
    assert photos.scan().identified == Identified(changed=1)
    assert photos.ids() == {"a.png": 2}
    assert photos.missing() == [1]


def test_content_that_is_changed_back_has_its_old_id(photos: Photos) -> None:
    for content in (1, 2, 1):
        photos.write("a.png", content=content)
        photos.scan()
    assert photos.ids() == {"a.png": 1}
    assert photos.missing() == [2]


def test_a_change_of_equal_size_and_time_is_seen(photos: Photos) -> None:
    photos.write("a.jpg", content=b"one")
    photos.scan()
    photos.write("a.jpg", content=b"two")
    assert photos.scan().identified == Identified(changed=1)


def test_ids_follow_two_files_that_are_swapped(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.write("b.png", content=2)
    photos.scan()
    photos.move("a.png", "aside")
    photos.move("b.png", "a.png")
    photos.move("aside", "b.png")
    assert photos.scan().identified == Identified(moved=2)
    assert photos.ids() == {"b.png": 1, "a.png": 2}


def test_ids_follow_three_files_that_rotate(photos: Photos) -> None:
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        photos.write(name, content=number)
    photos.scan()
    for old, new in (("c.png", "aside"), ("b.png", "c.png"), ("a.png", "b.png"), ("aside", "a.png")):
        photos.move(old, new)
    assert photos.scan().identified == Identified(moved=3)
    assert photos.ids() == {"b.png": 1, "c.png": 2, "a.png": 3}
    assert photos.missing() == []


def test_a_photo_moved_onto_another_keeps_its_id(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.write("b.png", content=2)
    photos.scan()
    photos.move("a.png", "b.png")
    assert photos.scan().identified.moved == 1
    assert photos.ids() == {"b.png": 1}
    assert photos.missing() == [2]


# Gone


def test_a_photo_that_is_gone_is_missing_and_kept(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.write("b.png", content=2)
    photos.scan()
    photos.remove("a.png")
    assert photos.scan().identified == Identified(missing=1)
    assert photos.scan().identified == Identified()
    assert photos.missing() == [1]
    assert photos.registry.count_images() == {"ok": 1, "failed": 0, "missing": 1}


def test_a_photo_that_comes_back_has_its_old_id(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.write("b.png", content=2)
    photos.scan()
    photos.remove("a.png")
    photos.scan()
    photos.write("a.png", content=1)
    assert photos.scan().identified == Identified(returned=1)
    assert photos.ids() == {"a.png": 1, "b.png": 2}


def test_an_id_is_never_given_twice(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.scan()
    with photos.registry.transaction():
        photos.registry.connection.execute("DELETE FROM images")
    photos.write("a.png", content=2)
    photos.scan()
    assert photos.ids() == {"a.png": 2}


# A lost disk


def test_an_empty_folder_stops_the_scan_and_marks_nothing_missing(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.scan()
    photos.remove("a.png")
    with pytest.raises(PhotosVanishedError, match=r"1 of 1 photos are gone from .*--accept-missing"):
        photos.scan()
    assert photos.missing() == []
    assert photos.scan(max_missing_share=1).identified == Identified(missing=1)


def test_an_empty_folder_is_fine_as_long_as_no_photo_was_in_it(photos: Photos) -> None:
    assert photos.scan().identified == Identified()


def test_more_gone_than_the_share_stops_the_scan_and_changes_nothing(photos: Photos) -> None:
    for number in range(ENOUGH):
        photos.write(f"{number:02}.png", content=number)
    photos.scan()
    before = photos.ids()
    photos.remove(*(f"{number:02}.png" for number in range(6)))
    photos.write("new.png", content=ENOUGH)
    with pytest.raises(PhotosVanishedError, match="6 of 20 photos are gone"):
        photos.scan(max_missing_share=0.25)
    assert photos.ids() == before
    assert photos.scan(max_missing_share=0.3).identified == Identified(new=1, missing=6)


def test_a_share_of_a_few_photos_stops_nothing(photos: Photos) -> None:
    for number in range(ENOUGH - 1):
        photos.write(f"{number:02}.png", content=number)
    photos.scan()
    photos.remove(*(f"{number:02}.png" for number in range(ENOUGH - 2)))
    assert photos.scan(max_missing_share=0.1).identified == Identified(missing=ENOUGH - 2)


@pytest.mark.parametrize(
    ("gone", "new", "foreseen"),
    [(11, 0, "would be refused: 11 of 20"), (11, 1, "may be refused, unless they only moved"), (10, 1, None)],
)
def test_a_preview_foresees_that_too_many_are_gone(photos: Photos, gone: int, new: int, foreseen: str | None) -> None:
    for number in range(ENOUGH):
        photos.write(f"{number:02}.png", content=number)
    photos.scan()
    photos.remove(*(f"{number:02}.png" for number in range(gone)))
    photos.write(*(f"new{number}.png" for number in range(new)), content=99)
    comparison, _ = preview_scan(photos.registry, one_root(photos.root))
    said = foresee_refusal(one_root(photos.root), comparison, 0.5, moved=())
    assert said is None if foreseen is None else foreseen in str(said)
    with pytest.raises(PhotosVanishedError) if foreseen else nullcontext():
        photos.scan()


def test_a_folder_that_is_not_there_stops_the_scan(photos: Photos) -> None:
    photos.root.rmdir()
    with pytest.raises(PhotoRootError, match="is no folder"):
        photos.scan()


# A folder of photos that moved


def test_only_a_scan_that_is_accepted_takes_the_new_folder(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.scan()
    photos.move("a.png", "../a.png")
    moved: list[dict[str, int]] = []

    def on_moved() -> None:
        moved.append(photos.ids())

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(PhotosVanishedError, match=r"1 of 1 photos are not below .*: name the folder that they moved"):
        photos.scan(on_moved=on_moved)
    photos.write("b.png", content=2)
    with pytest.raises(KeyboardInterrupt):
        photos.scan(on_read=interrupt, on_moved=on_moved)
    assert moved == []
    photos.scan(on_moved=on_moved)
    assert moved == [{"b.png": 2}]


def test_a_new_folder_that_cannot_be_noted_is_not_taken(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.scan()
    photos.move("a.png", "b.png")

    def disk_full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        photos.scan(on_moved=disk_full)
    assert photos.ids() == {"a.png": 1}


# A killed scan


def test_a_killed_scan_does_not_read_the_same_files_again(tmp_path: Path) -> None:
    names = [f"{number:02}.png" for number in range(2 * FILES_PER_PROBE + 3)]

    def die(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with Registry.open_for_writing(tmp_path / "registry.sqlite") as registry:
        photos = Photos(tmp_path / "photos", registry)
        for number, name in enumerate(names):
            photos.write(name, content=number)
        with pytest.raises(KeyboardInterrupt):
            photos.scan(on_read=die)
        assert photos.ids() == {}
    with Registry.open_for_writing(tmp_path / "registry.sqlite") as registry:
        photos = Photos(tmp_path / "photos", registry)
        assert photos.scan().identified == Identified(new=len(names))
        assert photos.read == names[FILES_PER_PROBE:]
        assert registry.connection.execute("SELECT count(*) FROM probes").fetchone() == (0,)


def test_a_file_that_changes_after_a_killed_scan_is_read_again(photos: Photos) -> None:
    def die(done: int, total: int) -> None:
        raise KeyboardInterrupt

    photos.write("a.jpg", content=b"one")
    photos.write("b.jpg", content=b"gone")
    with pytest.raises(KeyboardInterrupt):
        photos.scan(on_read=die)
    photos.write("a.jpg", content=b"two")
    photos.remove("b.jpg")
    photos.scan()
    assert photos.read == ["a.jpg"]
    assert list(photos.ids()) == ["a.jpg"]


def test_a_file_that_vanishes_after_a_killed_scan_is_left_out(photos: Photos) -> None:
    def die(done: int, total: int) -> None:
        raise KeyboardInterrupt

    photos.write("a.jpg", content=b"one")
    with pytest.raises(KeyboardInterrupt):
        photos.scan(on_read=die)
    photos.write("a.jpg", content=b"two")
    photos.reader.before = lambda: photos.remove("a.jpg")
    assert photos.scan().identified == Identified()
    assert photos.ids() == {}


# Names


NAMES = {
    "newline": b"line\nbreak.png",
    "quote": b'it\'s "quoted" 100%_.png',
    "emoji": "\N{CAMERA}\N{VARIATION SELECTOR-16}.png".encode(),
    "latin-1": b"caf\xe9.png",
    "no UTF-8 at all": b"\xff\xfe\x80.png",
    "255 bytes": b"x" * 251 + b".png",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_any_file_name_keeps_its_id(photos: Photos, name: bytes) -> None:
    photos.write(name, content=1)
    photos.scan()
    photos.scan()
    assert photos.read == []
    row = photos.registry.images([1])[1]
    assert (photos.root / row.file_path).read_bytes() == picture(1)
    assert row.path.encode().isascii() or row.raw_path is None
    photos.move(name, b"sub/" + name)
    assert photos.scan().identified == Identified(moved=1)
    assert photos.ids() == {os.fsdecode(b"sub/" + name): 1}


def test_the_name_decides_between_missing_rows_even_if_it_is_not_utf8(photos: Photos) -> None:
    photos.write(b"a/\xff.png", b"b/\xfe.png", content=1)
    photos.scan()
    photos.remove(b"a/\xff.png", b"b/\xfe.png")
    photos.scan(max_missing_share=1)
    photos.write(b"c/\xfe.png", content=1)
    photos.scan()
    assert photos.ids() == {os.fsdecode(b"c/\xfe.png"): 2}


# What cannot be read


@pytest.fixture
def deep(photos: Photos) -> Iterator[Photos]:
    """Photos whose folder `sub/…/deep` cannot be listed once the root lies two long folders deeper.

    Its path is then longer than the kernel takes, which stops even root, as a mode of 000 does not.
    """
    home, far = photos.root, photos.root.parent / ("f" * 250) / ("g" * 250) / "photos"
    folder = "sub"
    while len(os.fspath(home / folder)) < 3_650:
        folder += "/" + "d" * 200
    photos.write(f"{folder}/a.png", content=1)
    photos.write("subway.png", content=2)
    photos.write("sub.png", content=3)
    photos.scan()
    far.parent.mkdir(parents=True)
    home.rename(far)
    photos.root, photos.roots = far, one_root(far)
    yield photos
    far.rename(home)


def test_photos_of_a_folder_that_cannot_be_listed_are_not_missing(deep: Photos) -> None:
    report = deep.scan()
    assert len(report.unreadable_folders) == 1
    assert report.identified == Identified()
    assert len(deep.ids()) == 3


def test_only_photos_below_the_unreadable_folder_are_kept(deep: Photos) -> None:
    deep.remove("subway.png", "sub.png")
    assert deep.scan(max_missing_share=1).identified == Identified(missing=2)


def test_unreadable_folders_are_taken_by_their_whole_name(photos: Photos) -> None:
    photos.write("a%/x.png", "a%b/x.png", "A%/x.png", b"\xff/x.png", content=1)
    photos.scan()
    report = WalkReport(unreadable_folders=dict.fromkeys(["a%", os.fsdecode(b"\xff")], "Permission denied"))
    comparison = compare(photos.registry.connection, one_root(photos.root), [("", [])], report)
    gone = photos.registry.connection.execute(
        "SELECT path FROM gone JOIN images USING (id) ORDER BY path COLLATE BINARY"
    ).fetchall()
    assert comparison.gone == 2
    assert gone == [("A%/x.png",), ("a%b/x.png",)]


def test_a_file_that_cannot_be_examined_stops_neither_the_scan_nor_is_missing(photos: Photos) -> None:
    """As in a folder with mode r--: it can be listed, and nothing in it be looked at."""
    folder = "sub"
    while len(os.fspath(photos.root / folder)) < 3_600:
        folder += "/" + "d" * 200
    name = f"{folder}/{'n' * 200}.png"
    photos.write(name, content=1)
    photos.write("other.png", content=2)
    photos.scan()
    room = 4_095 - len(os.fspath(photos.root / folder))
    far = photos.root.parent / ("f" * (room // 2)) / ("g" * (room // 2 - 4)) / "photos"
    far.parent.mkdir(parents=True)
    home = photos.root.rename(far)
    photos.root, photos.roots = far, one_root(far)
    try:
        assert photos.scan().identified == Identified()
        assert len(photos.ids()) == 2
    finally:
        home.rename(photos.root.parents[2] / "photos")


def test_a_file_that_vanishes_before_it_is_read_is_left_out(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.write("b.png", content=2)
    photos.reader.before = lambda: photos.remove("a.png")
    assert photos.scan().identified == Identified(new=1)
    assert list(photos.ids()) == ["b.png"]


@pytest.fixture
def unreadable(photos: Photos) -> Photos:
    """A photo `a.png`, id 1, that was there, and at the last scan could not be read (it was a folder by then)."""
    photos.write("a.png", content=1)
    photos.scan()
    make_unreadable(photos)
    return photos


def make_unreadable(photos: Photos) -> None:
    os.utime(photos.path("a.png"))

    def spoil() -> None:
        photos.remove("a.png")
        photos.path("a.png").mkdir()

    photos.reader.before = spoil
    photos.scan()
    photos.reader.before = lambda: None
    photos.path("a.png").rmdir()
    assert photos.status("a.png") == "unreadable"


def test_a_known_photo_that_cannot_be_read_keeps_its_row_and_says_why(unreadable: Photos) -> None:
    row = unreadable.registry.images([1])[1]
    assert (row.status, unreadable.missing()) == ("unreadable", [])
    assert row.reason == "cannot be read: not a regular file"


def test_a_photo_that_can_be_read_again_is_usable_again(unreadable: Photos) -> None:
    unreadable.write("a.png", content=1)
    unreadable.scan()
    assert unreadable.ids() == {"a.png": 1}
    assert unreadable.status("a.png") == "ok"


def test_an_unreadable_photo_that_moved_is_usable_at_once(unreadable: Photos) -> None:
    unreadable.write("moved.png", content=1)
    unreadable.scan(max_missing_share=1)
    assert unreadable.ids() == {"moved.png": 1}
    assert unreadable.status("moved.png") == "ok"


@pytest.mark.parametrize("name", ["a.png", "moved.png"])
def test_a_corrupt_photo_that_can_be_read_again_is_corrupt_again(photos: Photos, name: str) -> None:
    """Its header is fine, so only what an ingest found out tells."""
    photos.write("a.png", content=1)
    photos.scan()
    fail(photos, content=1)
    make_unreadable(photos)
    photos.write(name, "new/copy.png", content=1)
    photos.scan(max_missing_share=1)
    assert photos.ids() == {name: 1, "new/copy.png": 2}
    assert {photos.status(name), photos.status("new/copy.png")} == {"corrupt"}
    assert photos.registry.images([1])[1].reason == "why"


@pytest.mark.parametrize("status", OF_ONE_MODALITY)
def test_a_photo_without_features_is_usable_all_the_same(photos: Photos, status: str) -> None:
    photos.write("a.png", content=1)
    photos.scan()
    fail(photos, content=1, status=status)
    make_unreadable(photos)
    photos.write("a.png", content=1)
    photos.scan()
    assert photos.status("a.png") == "ok"


def test_what_is_no_image_has_an_identity_too(photos: Photos) -> None:
    photos.write("text.jpg", content=b"not a picture")
    photos.write("empty.jpg", content=b"")
    photos.scan()
    photos.move("text.jpg", "still.jpg")
    photos.scan()
    assert photos.ids() == {"empty.jpg": 1, "still.jpg": 2}
    assert photos.registry.count_failures() == {"empty": 1, "not_an_image": 1}


# What is no photo


def test_other_files_are_counted_and_left_alone(photos: Photos, tmp_path: Path) -> None:
    photos.write("a.png", content=1)
    photos.write("notes.txt", "README", "._a.png", content=b"x")
    photos.write("library/library.json", "library/registry.sqlite", "library/hit.png", content=b"x")
    photos.path("loop").symlink_to(photos.root)
    photos.path("link.png").symlink_to(photos.path("a.png"))
    os.mkfifo(photos.path("pipe.png"))
    report = photos.scan()
    assert list(photos.ids()) == ["a.png"]
    assert report.other_files == {
        ".txt": 1, "no suffix": 1, "macOS twin": 1, "library": 1, "symlink": 2, "device, socket or pipe": 1
    }  # fmt: skip


def test_a_preview_reads_no_photo_and_changes_nothing(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.write("b.png", content=2)
    photos.scan()
    photos.remove("a.png")
    photos.write("c.png", content=3)
    before = list(photos.registry.connection.iterdump())
    comparison, _ = preview_scan(photos.registry, one_root(photos.root))
    assert (comparison.found, comparison.unchanged, comparison.to_read, comparison.gone) == (2, 1, 1, 1)
    assert list(photos.registry.connection.iterdump()) == before
