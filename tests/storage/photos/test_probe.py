"""Reading files that are not what the walk took them for."""

import ctypes
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgrec.storage.errors import CRASHED_DECODER
from imgrec.storage.photos import probe as module
from imgrec.storage.photos.probe import probe_failed, probe_files, read_regular
from imgrec.storage.photos.roots import one_root
from imgrec.storage.registry.failures import remedy_for
from imgrec.storage.registry.identity import Identified
from tests.storage.pictures import Photos, backdate, picture

DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2


@contextmanager
def without_privileges() -> Iterator[None]:
    """Take from this thread root's right to read every file (capabilities(7)); others never had it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    lowered = type(before)(*before)
    lowered[0] &= ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH)
    assert libc.capset(header, lowered) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("kind", ["folder", "pipe", "nothing", "link to itself", "device"])
def test_what_is_no_regular_file_is_refused_at_once_and_leaks_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "device":
        path = Path("/dev/zero")
    before = descriptors()
    for _ in range(3):
        with pytest.raises(OSError, match=r"not a regular|No such|Too many levels"):
            read_regular(path)
    assert descriptors() == before


def test_a_link_is_followed_only_where_that_is_asked_for(tmp_path: Path) -> None:
    """Files of the library are not, even if they were no links at the scan; a query's file is."""
    (tmp_path / "secret.png").write_bytes(picture(1))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").symlink_to(tmp_path / "secret.png")
    assert read_regular(tmp_path / "photos" / "a.png")[0] == picture(1)
    with pytest.raises(OSError, match="symbolic links"):
        read_regular(tmp_path / "photos" / "a.png", follow_symlink=False)
    (probe,) = probe_files(one_root(tmp_path / "photos"), ["a.png"], 60)
    assert (probe.status, probe.content_hash) == ("unreadable", None)


def test_a_file_without_read_permission_says_so_until_it_has_it(photos: Photos) -> None:
    photos.write("a.png", "b.png", content=1)
    photos.path("a.png").chmod(0)
    with without_privileges():
        photos.scan()
        assert photos.status("b.png") == "ok"
        row = photos.registry.images([photos.ids()["a.png"]])[photos.ids()["a.png"]]
        assert (row.status, row.reason) == ("unreadable", "cannot be read: Permission denied")
        photos.path("a.png").chmod(stat.S_IRUSR)
        photos.scan()
    assert photos.status("a.png") == "ok"


def test_a_folder_without_read_permission_keeps_its_photos(photos: Photos) -> None:
    photos.write("sub/a.png", "b.png", content=1)
    photos.scan()
    photos.path("sub").chmod(0)
    try:
        with without_privileges():
            report = photos.scan()
    finally:
        photos.path("sub").chmod(0o700)
    assert report.unreadable_folders == {"sub": "Permission denied"}
    assert (photos.missing(), photos.status("sub/a.png")) == ([], "ok")


def test_a_file_that_grows_while_it_is_read_is_read_again(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    photos.write("a.png", content=1)
    whole = module.read_regular

    def read_and_grow(path: Path, follow_symlink: bool = True) -> tuple[bytes, os.stat_result]:
        data, status = whole(path, follow_symlink)
        with path.open("ab") as file:
            file.write(b"more")
        return data, status

    with monkeypatch.context() as patched:
        patched.setattr(module, "read_regular", read_and_grow)
        photos.scan()
    assert photos.scan().identified.changed == 1
    content_hash = photos.registry.connection.execute("SELECT content_hash FROM images WHERE id = 2").fetchone()[0]
    assert content_hash == hashlib.sha256(picture(1) + b"more").digest()


def test_a_file_that_is_too_large_for_memory_is_hashed_in_pieces(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos.write("film.jpg", content=b"film" * 1_000)
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 3_999)
    photos.scan()
    row = photos.registry.images([1])[1]
    assert (row.status, row.reason) == ("too_large", "0.0 GB are more than a picture has that can be decoded")
    assert "more than 2 GiB" in remedy_for(row.status, row.reason)
    assert "max-megapixels" not in remedy_for(row.status, row.reason)
    content_hash = photos.registry.connection.execute("SELECT content_hash FROM images").fetchone()[0]
    assert content_hash == hashlib.sha256(b"film" * 1_000).digest()
    photos.scan()
    assert photos.read == []


def test_a_file_larger_than_any_film_costs_no_time(photos: Photos) -> None:
    for name, end in (("a.png", b"same"), ("b.png", b"same"), ("c.png", b"else")):
        with photos.path(name).open("wb") as file:
            file.truncate(2**42)
            file.seek(-len(end), os.SEEK_END)
            file.write(end)
        backdate(photos.path(name))
    assert photos.scan().identified == Identified(new=2, copied=1)
    row = photos.registry.images([1])[1]
    assert (row.status, row.reason) == ("too_large", "4398.0 GB are more than a picture has that can be decoded")
    photos.scan()
    assert photos.read == []


def test_a_large_file_that_cannot_be_read_to_its_end_says_so(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a disk with a bad sector does, or a network disk that is gone."""
    photos.write("film.jpg", content=b"film" * 1_000)
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 3_999)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(hashlib, "file_digest", fail)
    photos.scan()
    row = photos.registry.images([1])[1]
    assert (row.status, row.reason) == ("unreadable", "cannot be read: Input/output error")


def test_a_photo_whose_folder_became_a_file_is_left_out(photos: Photos) -> None:
    photos.write("sub/a.png", content=1)
    photos.write("b.png", content=2)

    def spoil() -> None:
        photos.path("sub").rename(photos.root.parent / "elsewhere")
        photos.path("sub").touch()

    photos.reader.before = spoil
    assert photos.scan().identified == Identified(new=1)
    assert list(photos.ids()) == ["b.png"]


def test_a_file_that_ended_its_worker_has_an_identity(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    (probe,) = probe_failed(one_root(tmp_path), "a.png", CRASHED_DECODER, "why")
    assert (probe.content_hash, probe.status, probe.reason) == (
        hashlib.sha256(picture(1)).digest(),
        CRASHED_DECODER,
        "why",
    )
    assert probe_failed(one_root(tmp_path), "gone.png", CRASHED_DECODER, "why") == []


def test_what_failed_before_is_not_parsed_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    known = {hashlib.sha256(picture(1)).digest(): (CRASHED_DECODER, "why")}
    (probe,) = probe_files(one_root(tmp_path), ["a.png"], 60, known)
    assert (probe.status, probe.reason) == (CRASHED_DECODER, "why")
