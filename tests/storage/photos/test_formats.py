"""Which files are photos, by suffix and by content; and what needs an extra."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from imgrec.storage.errors import ImageError
from imgrec.storage.photos import decoding as images
from imgrec.storage.photos import formats, walk
from imgrec.storage.photos.decoding import ORIENTATION_TAG, Header, decode, read_header
from imgrec.storage.photos.formats import (
    EXTRAS,
    HEAD_BYTES,
    HEIF,
    JXL,
    RAW,
    describe_extras,
    looks_like_a_picture,
    needed_extra,
)
from imgrec.storage.photos.jxl import jxl_size
from imgrec.storage.photos.walk import WalkReport, walk_photos
from imgrec.storage.registry.failures import forget_failures, list_retryable
from tests.flows.nasty import encode
from tests.storage.photos.makers import CONTENTS, blocks, mpo, netpbm
from tests.storage.photos.test_decoding import pixels_of
from tests.storage.pictures import Photos
from tests.storage.raw_files import dng

needs_rawpy = pytest.mark.skipif(not formats.is_installed(RAW), reason="the extra [raw] is not installed")
needs_jxl = pytest.mark.skipif(not formats.is_installed(JXL), reason="the extra [jxl] is not installed")


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where no extra is installed."""
    modules = {extra.module for extra in EXTRAS}
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name in modules else find_spec(name))
    forget()
    yield
    monkeypatch.undo()
    forget()


def forget() -> None:
    formats.is_installed.cache_clear()
    images._formats.cache_clear()


MADE: dict[str, Callable[[], bytes]] = {
    **{f"netpbm {kind}": partial(netpbm, kind) for kind in ("P1", "P2", "P3", "P4", "P5", "P6")},
    "jp2": lambda: encode(blocks(), "JPEG2000"),
    "j2k": lambda: encode(blocks(), "JPEG2000", no_jp2=True),
    "mpo": mpo,
    "big TIFF": lambda: encode(blocks(), "TIFF", big_tiff=True),
    **{name: partial(encode, blocks(), name) for name in ("PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG")},
}


@pytest.mark.parametrize("name", MADE)
def test_a_picture_is_read_by_its_content(name: str) -> None:
    data = MADE[name]()
    assert looks_like_a_picture(data[:HEAD_BYTES])
    assert read_header(data)[:2] == (48, 32)
    corner = pixels_of(data)[4, 4]
    expected = (220, 20, 20) if name not in ("netpbm P1", "netpbm P2", "netpbm P4", "netpbm P5") else None
    assert expected is None or np.abs(corner.astype(int) - expected).max() < 40


def test_a_bitmap_without_a_file_header_is_read() -> None:
    data = encode(blocks(), "DIB")
    assert read_header(data) == Header(48, 32, "DIB")
    assert np.array_equal(pixels_of(data), np.asarray(blocks()))
    for beginning in (1, 2, 4, 20):
        with pytest.raises(ImageError):
            read_header(data[:beginning])


def test_16_bits_of_netpbm_are_a_ramp() -> None:
    values = np.linspace(0, 65_535, 64).astype(">u2")
    grey = pixels_of(b"P5 64 1 65535\n" + values.tobytes())[0, :, 0]
    assert np.abs(grey.astype(int) - np.linspace(0, 255, 64)).max() <= 1


@pytest.mark.parametrize(
    "head",
    [b"", b"PK\x03\x04", b"%PDF-1.7", b"\x7fELF", b"#!/bin/sh", b"P5", b"P500 is a name", b"BM is a text",
     b"RIFF1234WAVE", b"\0\0\0 ftypisom", b"\0\0\0 ftypmp42", b"\x1aE\xdf\xa3", b"GIT", b"II", b"MMXX is a year"],
)  # fmt: skip
def test_other_things_do_not_look_like_pictures(head: bytes) -> None:
    assert not looks_like_a_picture(head[:HEAD_BYTES])


# The walk


def test_suffixes_say_what_is_opened(photos: Photos) -> None:
    names = ["a.jfif", "b.JPE", "c.ppm", "d.pgm", "e.jp2", "f.mpo", "g.j2k", "h.pbm", "i.DIB"]
    for number, name in enumerate(names):
        photos.write(name, content=number)
    photos.write("film.mp4", "film.MOV", "notes.txt", "x.jpg.part", content=1)
    report = photos.scan()
    assert sorted(photos.ids()) == names
    assert report.other_files == {".mp4": 1, ".mov": 1, ".txt": 1, ".part": 1}


def test_files_without_a_suffix_are_told_by_their_first_bytes(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def look(path: Path) -> bytes:
        opened.append(path.name)
        return original(path)

    original = walk._first_bytes
    monkeypatch.setattr(walk, "_first_bytes", look)
    photos.write("IMG0001", content=1)
    photos.write("Makefile", ".hidden", "e", content=b"all:\n")
    photos.write("empty", content=b"")
    report = photos.scan()
    assert (list(photos.ids()), photos.read) == (["IMG0001"], ["IMG0001"])
    assert report.other_files == {"no suffix": 4}
    assert opened == ["IMG0001", "Makefile", "e", "empty"]
    opened.clear()
    assert (photos.scan().unchanged, photos.read) == (1, [])
    assert "IMG0001" not in opened  # it is known, and as it was
    photos.write("IMG0001", content=b"not any more")
    assert (photos.scan().identified.changed, photos.status("IMG0001")) == (1, "not_an_image")  # and is told


def test_the_same_of_links(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "key").write_bytes(encode(blocks(), "PNG"))
    (tmp_path / "text").write_bytes(b"text")
    for name in ("key", "text"):
        (tmp_path / "photos" / name).symlink_to(tmp_path / name)
    report = WalkReport()
    assert [file.path for file in walk_photos(tmp_path / "photos", report, walk.Walking((), True))] == ["key"]
    assert report.other_files == {"no suffix": 1}


# Extras


@pytest.mark.usefixtures("without_extras")
def test_files_of_a_missing_extra_are_left_unread_and_name_it(photos: Photos) -> None:
    photos.write("a.heic", "b.HIF", "c.dng", "d.jxl", content=b"x")
    report = photos.scan()
    assert (report.found, report.other_files) == (0, {".heic": 1, ".hif": 1, ".dng": 1, ".jxl": 1})
    assert describe_extras({**report.other_files, ".txt": 3}) == [
        "2 .heic, .hif left: `pip install 'image-recommender[heif]'` reads such files",
        "1 .jxl left: `pip install 'image-recommender[jxl]'` reads such files",
        "1 .dng left: `pip install 'image-recommender[raw]'` reads such files",
    ]


@pytest.mark.usefixtures("without_extras")
@pytest.mark.parametrize("extra", CONTENTS)
def test_content_that_needs_an_extra_names_it_whatever_the_suffix(extra: str) -> None:
    assert looks_like_a_picture(CONTENTS[extra][:HEAD_BYTES])
    for read in (read_header, lambda data: decode(data, 448, 256)):
        with pytest.raises(
            ImageError, match=rf"needs an extra: `pip install 'image-recommender\[{extra}\]'`"
        ) as raised:
            read(CONTENTS[extra])
        assert raised.value.status == "not_an_image"


@needs_rawpy
def test_what_needed_an_extra_is_tried_again_once_it_is_there(photos: Photos, tmp_path: Path) -> None:
    photos.write("a.png", content=dng(blocks()))
    photos.write("b.png", content=b"no picture at all")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(formats, "find_spec", lambda name: None)
        forget()
        photos.scan()
        assert list_retryable(photos.registry, {}) == set()
    forget()
    assert (photos.status("a.png"), photos.status("b.png")) == ("not_an_image", "not_an_image")
    retryable = list_retryable(photos.registry, {})
    assert len(retryable) == 1
    forget_failures(photos.registry, tmp_path / "shards", retryable, by_itself=True)
    photos.scan()
    assert (photos.status("a.png"), photos.read) == ("ok", ["a.png"])
    assert list_retryable(photos.registry, {}) == set()


def test_an_installed_extra_is_not_asked_for() -> None:
    for extra, content in ((HEIF, CONTENTS["heif"]), (JXL, CONTENTS["jxl"])):
        assert (needed_extra(content) is None) == formats.is_installed(extra)


# Raw pictures


@needs_rawpy
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(("preview_side", "version"), [(None, True), (960, True), (96, True), (None, False)])
def test_a_raw_picture_is_its_preview_or_developed_upright(
    version: bool, orientation: int, preview_side: int | None
) -> None:
    """The preview counts if it is large enough; it has a grey of its own to be known by."""
    preview = None
    if preview_side is not None:
        marked = blocks(preview_side, preview_side * 2 // 3).copy()
        marked.paste((128, 128, 128), (preview_side * 3 // 8, 0, preview_side * 5 // 8, preview_side))
        preview = encode(marked, "JPEG", quality=95)
    data = dng(blocks(480, 320), preview, orientation, version)
    assert read_header(data)[:3] == (480, 320, "RAW")
    pixels = pixels_of(data, 128)
    upright = np.rot90(pixels, {1: 0, 3: 2, 6: 1, 8: -1}[orientation]).astype(int)
    height, width = upright.shape[:2]
    is_preview = np.abs(upright[height // 4, width // 2] - 128).max() < 30
    assert is_preview == (preview_side == 960)
    if not is_preview:
        assert (width, height) == (240, 160)
    top_left, top_right, bottom_left = (upright[y, x] for y, x in ((9, 9), (9, width - 9), (height - 9, 9)))
    assert (top_left.argmax(), top_right.argmax(), bottom_left.argmax()) == (0, 2, 1)


@needs_rawpy
def test_a_preview_that_says_how_to_turn_it_is_turned_once() -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    preview = encode(blocks(960, 640).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif.tobytes())
    pixels = pixels_of(dng(blocks(480, 320), preview, 6))
    assert pixels.shape[:2] == (640, 960)
    assert pixels[9, 9].argmax() == 0


@needs_rawpy
def test_a_damaged_raw_picture_is_corrupt() -> None:
    data = dng(blocks(480, 320))
    for broken in (data[:8] + data[-400:], b"FUJIFILMCCD-RAW" + bytes(500)):
        with pytest.raises(ImageError) as raised:
            decode(broken, 448, 256)
        assert raised.value.status in ("corrupt", "not_an_image")
        assert "\n" not in str(raised.value)
    with pytest.raises(ImageError, match="240×160 pixels are more than"):
        decode(data, 448, 0.01)


@needs_rawpy
def test_a_tiff_that_begins_like_a_raw_picture_and_is_none_is_a_tiff() -> None:
    preview = encode(blocks(960, 640), "JPEG")
    assert read_header(dng(blocks(480, 320), preview, version=False))[:3] == (12, 8, "TIFF")


def test_an_ordinary_tiff_of_a_camera_is_no_raw_picture() -> None:
    exif = Image.Exif()
    exif[271] = "Acme"
    data = encode(blocks(), "TIFF", tiffinfo=exif)
    assert read_header(data)[:3] == (48, 32, "TIFF")


@needs_rawpy
def test_a_raw_picture_and_its_jpeg_stay_two_photos(photos: Photos) -> None:
    preview = encode(blocks(960, 640), "JPEG")
    photos.write("a.dng", content=dng(blocks(480, 320), preview))
    photos.write("a.jpg", content=preview)
    photos.scan()
    assert sorted(photos.ids()) == ["a.dng", "a.jpg"]
    assert {photos.status(name) for name in photos.ids()} == {"ok"}


# JPEG XL


@needs_jxl
def test_jpeg_xl_is_read_in_both_its_clothes() -> None:
    import pillow_jxl  # noqa: F401 - teaches Pillow to write it

    for container in (False, True):
        data = encode(blocks(), "JXL", lossless=True, use_container=container)
        assert looks_like_a_picture(data[:HEAD_BYTES])
        assert read_header(data) == Header(48, 32, "JXL")
        assert np.array_equal(pixels_of(data), np.asarray(blocks()))


@needs_jxl
def test_a_packed_jpeg_is_turned_upright(tmp_path: Path) -> None:
    import pillow_jxl  # noqa: F401 - teaches Pillow to write it

    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    path = tmp_path / "a.jpg"
    blocks().transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif.tobytes())
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, "JXL", lossless_jpeg=True)
    pixels = pixels_of(buffer.getvalue())
    assert pixels.shape[:2] == (32, 48)
    assert pixels[4, 4].argmax() == 0


@needs_jxl
@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 700), height=st.integers(1, 700), container=st.booleans())
@example(width=640, height=480, container=False)
@example(width=8, height=256, container=True)
@example(width=9_000, height=1, container=False)
def test_the_size_of_a_jpeg_xl_is_read_without_decoding_it(width: int, height: int, container: bool) -> None:
    import pillow_jxl  # noqa: F401 - teaches Pillow to write it

    data = encode(Image.new("L", (width, height)), "JXL", effort=1, use_container=container)
    assert jxl_size(data) == (width, height)
    assert read_header(data[: len(data) // 2 + 40]) == Header(width, height, "JXL")


@needs_jxl
def test_a_jpeg_xl_that_is_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some bytes, and a thousand million pixels a side."""
    bits = 0 | 3 << 1 | (2**30 - 1) << 3 | 1 << 33  # not small, 30 bits, as wide as high
    data = b"\xff\x0a" + bits.to_bytes(16, "little")
    assert jxl_size(data) == (2**30, 2**30)
    with pytest.raises(ImageError, match="1073741824×1073741824 pixels are more than max_megapixels = 256"):
        decode(data, 448, 256)


def test_what_has_no_codestream_has_no_size() -> None:
    container = b"\0\0\0\x0cJXL \r\n\x87\n"
    for data in (
        b"",
        b"\xff\x0a",
        container,
        container + b"\0\0\0\0jxl " + bytes(99),
        container + bytes(99),
        b"x" * 99,
    ):
        assert jxl_size(data) is None


@needs_jxl
def test_a_truncated_jpeg_xl_is_corrupt() -> None:
    import pillow_jxl  # noqa: F401 - teaches Pillow to write it

    data = encode(blocks(), "JXL", lossless=True)
    with pytest.raises(ImageError) as raised:
        pixels_of(data[: len(data) // 2])
    assert raised.value.status == "corrupt"
