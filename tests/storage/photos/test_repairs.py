"""What is damaged in a picture's file and cannot harm its pixels costs no picture; what can, does."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from imgrec.storage.errors import ImageError
from imgrec.storage.machine import stderr
from imgrec.storage.photos.decoding import ORIENTATION_TAG, decode, read_header
from tests.flows.nasty import encode, noise, picture
from tests.storage.photos.makers import HARMLESS, with_chunk


@contextmanager
def in_a_worker() -> Iterator[None]:
    """Keep what libjpeg says, as worker processes do; another process asks a child each time."""
    before, python_before = os.dup(2), sys.stderr
    with patch.object(stderr, "_kept", kept := list[int]()):
        stderr.keep_stderr()
        try:
            yield
        finally:
            sys.stderr.close()
            sys.stderr = python_before
            os.dup2(before, 2)
            for descriptor in (before, *kept):
                os.close(descriptor)


def pixels_of(data: bytes) -> np.ndarray:
    return decode(data, 64, 1)


def status_of(data: bytes) -> str:
    try:
        read_header(data)
        pixels_of(data)
    except ImageError as error:
        return error.status
    return "ok"


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("what", HARMLESS)
def test_what_a_png_can_do_without_costs_no_picture(what: str, before: bytes) -> None:
    sound = encode(noise(), "PNG")
    data = with_chunk(sound, HARMLESS[what], before)
    assert status_of(data) == "ok"
    assert np.array_equal(pixels_of(data), pixels_of(sound))
    assert read_header(data) == read_header(sound)


def test_what_makes_a_png_what_it_is_stays() -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    sound = encode(picture().quantize(8), "PNG", transparency=bytes(range(8)), exif=exif)
    data = with_chunk(sound, HARMLESS["a text with a bad checksum"])
    assert np.array_equal(pixels_of(data), pixels_of(sound))
    assert pixels_of(data).shape == (48, 32, 3)


def test_a_png_whose_end_is_missing_has_its_pixels() -> None:
    sound = with_chunk(encode(noise(), "PNG"), HARMLESS["a large text"], b"IEND")
    assert np.array_equal(pixels_of(sound[:-100]), pixels_of(sound))


@pytest.mark.parametrize("what", ["a huge text", "a text with a bad checksum"])
def test_a_truncated_png_is_corrupt_all_the_same(what: str) -> None:
    data = with_chunk(encode(noise(), "PNG"), HARMLESS[what])
    with pytest.raises(ImageError, match="image file is truncated") as caught:
        pixels_of(data[:-3_000])
    assert caught.value.status == "corrupt"


def test_a_png_that_is_too_large_is_said_to_be_that() -> None:
    data = with_chunk(encode(Image.new("RGB", (2_000, 1_000)), "PNG"), HARMLESS["a text with a bad checksum"])
    assert status_of(data) == "too_large"


JPEGS: dict[str, dict[str, object]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "best": {"quality": 95, "subsampling": 0},
    "restarts": {"restart_marker_rows": 1},
}
PICTURES = {
    "noise": noise(),
    "grey": Image.new("RGB", (64, 64), (128, 128, 128)),
    "inks": noise().convert("CMYK"),
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("what", PICTURES)
def test_a_jpeg_that_lacks_only_its_end_has_its_pixels(what: str, kind: str) -> None:
    sound = encode(PICTURES[what], "JPEG", **JPEGS[kind])
    with in_a_worker():
        for data in (sound[:-1], sound[:-2], sound[:-2] + bytes(4_096), sound[:-2] + b"\xff" * 512):
            assert status_of(data) == "ok"
            assert np.array_equal(pixels_of(data), pixels_of(sound))


def test_outside_of_workers_a_child_is_asked_what_libjpeg_says(capfd: pytest.CaptureFixture[str]) -> None:
    sound = encode(PICTURES["grey"], "JPEG")
    assert np.array_equal(pixels_of(sound[:-1]), pixels_of(sound))
    os.write(2, b"nothing else")
    assert capfd.readouterr().err == "nothing else"


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_that_lacks_any_of_its_pixels_is_corrupt(kind: str) -> None:
    sound = encode(noise(), "JPEG", **JPEGS[kind])
    with in_a_worker():
        for missing in (*range(4, 200), len(sound) // 2):
            data = sound[:-missing]
            assert status_of(data) == "corrupt" or np.array_equal(pixels_of(data), pixels_of(sound)), missing


def test_a_jpeg_that_lacks_pixels_is_corrupt_though_it_is_filled_up() -> None:
    sound = encode(PICTURES["grey"], "JPEG", quality=95)
    noisy = encode(noise(), "JPEG")
    assert status_of(sound[: len(sound) * 3 // 4]) == "corrupt"
    assert status_of(noisy[: len(noisy) // 2] + b"\xff" * 512) == "corrupt"


def test_more_data_than_pixels_are_no_damage() -> None:
    sound = encode(PICTURES["grey"], "JPEG")
    assert status_of(sound[:-2] + bytes(100) + sound[-2:]) == "ok"
