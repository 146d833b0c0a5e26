"""When a photo was taken, and by which camera."""

import io
from collections.abc import Mapping

import pytest
from PIL import Image

from imgrec.storage.photos.decoding import read_exif, read_header
from imgrec.storage.photos.exif import NO_EXIF, Exif, exif_of_raw
from tests.flows.nasty import encode
from tests.storage.photos.makers import blocks
from tests.storage.photos.test_formats import needs_rawpy
from tests.storage.raw_files import dng

MAKE, MODEL, DATE_TIME, EXIF_IFD = 0x010F, 0x0110, 0x0132, 0x8769
ORIGINAL, DIGITIZED, OFFSET_ORIGINAL = 0x9003, 0x9004, 0x9011
WHEN = {ORIGINAL: "2019:05:17 09:30:01", OFFSET_ORIGINAL: "+02:00"}
READ = Exif("2019-05-17 09:30:01", "+02:00", "Apple iPhone 12")


def block_of(
    inner: Mapping[int, object], make: object = "Apple", model: object = "iPhone 12", **outer: object
) -> bytes:
    exif = Image.Exif()
    exif[MAKE], exif[MODEL] = make, model
    exif[DATE_TIME] = "2026:01:01 00:00:00"
    exif.get_ifd(EXIF_IFD).update(inner)
    return exif.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "MPO"])
def test_it_is_read_of_every_format_from_bytes_and_from_the_header_of_a_file(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    options = {"save_all": True, "append_images": [blocks()]} if kind == "MPO" else {}
    data = encode(blocks(), kind, exif=block_of(WHEN), **options)
    assert read_header(data).exif == READ
    assert read_exif(io.BytesIO(data), kind) == READ


def test_only_the_header_of_a_file_is_read() -> None:
    class Counting(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.count += len(data)
            return data

    for kind, most in (("JPEG", 60_000), ("PNG", 20_000), ("TIFF", 20_000)):
        noise = Image.effect_noise((1_500, 1_000), 90).convert("RGB")
        file = Counting(encode(noise, kind, exif=block_of(WHEN)))
        assert read_exif(file, kind) == READ
        assert 0 < file.count < most < len(file.getvalue()) / 10


@needs_rawpy
def test_it_is_read_of_raw_pictures() -> None:
    data = dng(blocks(480, 320))
    assert read_header(data).exif == Exif(None, None, "Acme One")
    olympus = b"IIRO" + data[4:]
    assert exif_of_raw(io.BytesIO(olympus)) == Exif(None, None, "Acme One")
    jpeg = encode(blocks(), "JPEG", exif=block_of(WHEN))
    fujifilm = b"FUJIFILMCCD-RAW".ljust(84, b"\0") + (200).to_bytes(4, "big") + bytes(112) + jpeg
    assert exif_of_raw(io.BytesIO(fujifilm)) == READ


@pytest.mark.parametrize(
    ("inner", "taken", "offset"),
    [
        ({}, None, None),
        ({DIGITIZED: "2001:02:03 04:05:06"}, "2001-02-03 04:05:06", None),
        ({ORIGINAL: "0000:00:00 00:00:00", DIGITIZED: "2001:02:03 04:05:06"}, "2001-02-03 04:05:06", None),
        ({ORIGINAL: "    :  :     :  :  "}, None, None),
        ({ORIGINAL: "2019:02:29 00:00:00"}, None, None),
        ({ORIGINAL: "2019:13:01 00:00:00"}, None, None),
        ({ORIGINAL: "yesterday"}, None, None),
        ({ORIGINAL: "2019-05-17T09:30:01.25"}, "2019-05-17 09:30:01", None),
        ({ORIGINAL: "1899:12:31 23:59:59\0\0"}, "1899-12-31 23:59:59", None),
        ({ORIGINAL: b"2019:05:17 09:30:01\0"}, "2019-05-17 09:30:01", None),
        ({**WHEN, OFFSET_ORIGINAL: "-99:00"}, "2019-05-17 09:30:01", None),
        ({**WHEN, OFFSET_ORIGINAL: "   :  "}, "2019-05-17 09:30:01", None),
        ({**WHEN, OFFSET_ORIGINAL: "-03:30"}, "2019-05-17 09:30:01", "-03:30"),
    ],
)
def test_a_date_that_no_calendar_has_is_none(
    inner: Mapping[int, object], taken: str | None, offset: str | None
) -> None:
    exif = read_header(encode(blocks(), "JPEG", exif=block_of(inner))).exif
    assert (exif.taken, exif.taken_offset) == (taken, offset)


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D750", "NIKON D750"),
        ("Apple\0", "iPhone 12\0garbage", "Apple iPhone 12"),
        ("", "DSC\x1b[31m", "DSC [31m"),
        ("Leica ", "", "Leica"),
        ("", " \n ", None),
    ],
)
def test_a_camera_has_one_name(make: str, model: str, camera: str | None) -> None:
    assert read_header(encode(blocks(), "JPEG", exif=block_of({}, make, model))).exif.camera == camera


def test_a_damaged_block_says_nothing_and_costs_no_picture() -> None:
    block = block_of(WHEN)
    for damaged in (
        b"Exif\0\0",
        block[:20],
        block[:40],
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        block.replace(b"\x87\x69", b"\x88\x69").replace(b"\x69\x87", b"\x69\x88"),
    ):
        header = read_header(encode(blocks(), "JPEG", exif=damaged))
        assert header[:3] == (48, 32, "JPEG")
        assert header.exif.taken is None
    assert read_exif(io.BytesIO(b"nonsense"), "JPEG") == NO_EXIF
    assert exif_of_raw(io.BytesIO(b"II*\0")) == NO_EXIF
    assert exif_of_raw(io.BytesIO(b"")) == NO_EXIF
