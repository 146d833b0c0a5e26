"""Bytes of an image file → pixels, or a status and a reason."""

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, features

from imgrec.storage.errors import ImageError
from imgrec.storage.photos.decoding import ORIENTATION_TAG, Header, decode, read_header
from imgrec.storage.photos.formats import photo_suffixes
from imgrec.storage.photos.paths import printable
from tests.flows.nasty import encode
from tests.storage.photos.makers import DEEP, blocks, deep_tiff, heif_is_written, white_art

MIN_SIDE = 448
MAX_MEGAPIXELS = 256.0
Pixels = NDArray[np.uint8]

# What has to be done to an upright picture so that this orientation turns it upright again.
UNDO = {
    1: lambda picture: picture,
    2: lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda picture: picture.transpose(Image.Transpose.ROTATE_180),
    4: lambda picture: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda picture: picture.transpose(Image.Transpose.TRANSPOSE),
    6: lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    7: lambda picture: picture.transpose(Image.Transpose.TRANSVERSE),
    8: lambda picture: picture.transpose(Image.Transpose.ROTATE_270),
}  # fmt: skip


def pixels_of(data: bytes, min_side: int = MIN_SIDE, max_megapixels: float = MAX_MEGAPIXELS) -> Pixels:
    pixels = decode(data, min_side, max_megapixels)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert min(pixels.shape) > 0
    assert pixels.flags.c_contiguous
    return pixels


def status_of(data: bytes, max_megapixels: float = MAX_MEGAPIXELS) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, MIN_SIDE, max_megapixels)
    assert "\n" not in str(caught.value)
    return caught.value.status


def grey_ramp(dtype: type[np.generic]) -> Image.Image:
    """16 × 16 pixels from 0 to 65,280 in steps of 256, which are the grey values 0 … 254 of 8 bits."""
    return Image.fromarray(np.arange(0, 65_536, 256).reshape(16, 16).astype(dtype))


RAMP_IN_8_BITS = np.round(np.arange(0, 65_536, 256) * (255 / 65_535)).astype(np.uint8).reshape(16, 16)


LOSSLESS: dict[str, dict[str, object]] = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}, "GIF": {}}
LOSSY: dict[str, dict[str, object]] = {"JPEG": {"quality": 95}, "AVIF": {"quality": 95}}


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_all_orientations_give_the_same_upright_pixels(format: str, orientation: int) -> None:
    if format == "HEIF" and not heif_is_written():
        pytest.skip("no HEIF encoder in this build of pillow-heif")
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    options = LOSSLESS.get(format) or LOSSY.get(format) or {}
    data = encode(UNDO[orientation](blocks()), format, exif=exif.tobytes(), **options)
    difference = np.abs(pixels_of(data).astype(int) - np.asarray(blocks()).astype(int))
    assert difference.mean() < 5


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_is_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    assert np.array_equal(pixels_of(encode(blocks(), "PNG", exif=exif)), np.asarray(blocks()))


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage of no kind",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04abc",
    ],
)
def test_a_damaged_exif_block_is_ignored(exif: bytes) -> None:
    plain = pixels_of(encode(blocks(), "JPEG"))
    assert np.array_equal(pixels_of(encode(blocks(), "JPEG", exif=exif)), plain)


# Modes


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats_keep_every_pixel(format: str) -> None:
    assert np.array_equal(pixels_of(encode(blocks(), format, **LOSSLESS[format])), np.asarray(blocks()))


@pytest.mark.parametrize("format", LOSSY)
def test_lossy_formats_come_close(format: str) -> None:
    pixels = pixels_of(encode(blocks(), format, **LOSSY[format]))
    assert np.abs(pixels.astype(int) - np.asarray(blocks()).astype(int)).mean() < 5


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_alpha_lies_over_white(format: str) -> None:
    picture = Image.new("RGBA", (4, 1))
    for x, colour in enumerate([(255, 0, 0, 0), (255, 0, 0, 255), (0, 0, 0, 51), (200, 100, 0, 128)]):
        picture.putpixel((x, 0), colour)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    pixels = pixels_of(encode(picture, format, **options)).astype(int)
    expected = [[[255, 255, 255], [255, 0, 0], [204, 204, 204], [227, 177, 127]]]
    assert np.abs(pixels - expected).max() <= 1


def test_grey_alpha_lies_over_white() -> None:
    picture = Image.new("LA", (2, 1))
    picture.putpixel((0, 0), (0, 0))
    picture.putpixel((1, 0), (0, 51))
    assert pixels_of(encode(picture, "PNG")).tolist() == [[[255] * 3, [204] * 3]]


def test_a_transparent_palette_colour_lies_over_white() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    for data in (encode(picture, "PNG", transparency=0), encode(picture, "GIF", transparency=0)):
        assert pixels_of(data).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_a_palette_of_alphas_lies_over_white() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([0, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    assert pixels_of(encode(picture, "PNG", transparency=bytes([51, 255]))).tolist() == [[[204] * 3, [0, 0, 255]]]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_one_transparent_colour_lies_over_white(mode: str) -> None:
    colour: int | tuple[int, int, int] = 7 if mode == "L" else (1, 2, 3)
    data = encode(Image.new(mode, (2, 2), colour), "PNG", transparency=colour)
    assert (pixels_of(data) == 255).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_white_art_on_transparency_shows(mode: str) -> None:
    arts = [white_art(1), white_art(4)]
    first, second = (encode(art.quantize() if mode == "P" else art.convert(mode), "PNG") for art in arts)
    for data in (first, second):
        pixels = pixels_of(data)
        assert pixels.max() > 250
        assert (pixels[0, 0] == 128).all()
    assert (pixels_of(first) != pixels_of(second)).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_art_around_one_transparent_value_shows(dtype: type[np.uint8 | np.uint16]) -> None:
    values = np.full((8, 8), np.iinfo(dtype).max, dtype)
    values[2:5, 2:5] = 7
    pixels = pixels_of(encode(Image.fromarray(values), "PNG", transparency=7))
    assert (pixels[2:5, 2:5] == 128).all()
    assert pixels[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize(("colour", "background"), [(255, 128), (250, 128), (246, 255), (0, 255)])
def test_only_what_does_not_show_on_white_lies_over_grey(colour: int, background: int) -> None:
    assert (pixels_of(encode(white_art(1, colour), "PNG"))[0, 0] == background).all()


def test_a_picture_that_is_all_transparent_stays_white() -> None:
    assert (pixels_of(encode(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), "PNG")) == 255).all()


def test_one_transparent_grey_of_16_bits_lies_over_white() -> None:
    data = encode(Image.fromarray(np.array([[256, 512]], np.uint16)), "PNG", transparency=256)
    assert pixels_of(data).tolist() == [[[255] * 3, [2] * 3]]


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_pictures_have_three_equal_channels(mode: str) -> None:
    picture = blocks().convert(mode)
    assert np.array_equal(pixels_of(encode(picture, "PNG")), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_inks_become_colours(format: str) -> None:
    cyan, black = Image.new("CMYK", (9, 9), (255, 0, 0, 0)), Image.new("CMYK", (9, 9), (0, 0, 0, 255))
    assert pixels_of(encode(cyan, format))[4, 4].tolist() == pytest.approx([0, 255, 255], abs=3)
    assert pixels_of(encode(black, format))[4, 4].tolist() == pytest.approx([0, 0, 0], abs=3)


@pytest.mark.parametrize(("format", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32)])
def test_16_bits_are_scaled_and_not_clipped(format: str, dtype: type[np.generic]) -> None:
    pixels = pixels_of(encode(grey_ramp(dtype), format))
    assert np.abs(pixels[..., 0].astype(int) - RAMP_IN_8_BITS).max() <= 1
    assert (pixels == pixels[..., :1]).all()


def test_a_dark_picture_of_16_bits_stays_dark() -> None:
    data = encode(Image.fromarray(np.full((4, 4), 200, np.uint16)), "PNG")
    assert pixels_of(data).max() <= 1


def test_16_bits_of_the_other_byte_order_are_the_same() -> None:
    little = grey_ramp(np.uint16)
    big = Image.frombytes("I;16B", little.size, np.asarray(little).astype(">u2").tobytes())
    assert np.array_equal(pixels_of(encode(big, "TIFF")), pixels_of(encode(little, "TIFF")))


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_floats_are_scaled(top: float) -> None:
    ramp = np.linspace(0, top, 256, dtype=np.float32).reshape(16, 16)
    assert np.array_equal(pixels_of(encode(Image.fromarray(ramp), "TIFF"))[..., 0].reshape(-1), np.arange(256))


@pytest.mark.parametrize("kind", DEEP)
def test_deep_values_beyond_any_type_are_scaled_by_their_range(kind: str) -> None:
    ramp = np.linspace(0, 1, 40_000).reshape(200, 200)
    up, down = (pixels_of(deep_tiff(DEEP[kind](each)))[..., 0].astype(int) for each in (ramp, ramp[::-1]))
    for pixels, expected in ((up, ramp * 255), (down, ramp[::-1] * 255)):
        assert np.abs(pixels - expected).max() <= 3
    assert np.abs(up - down[::-1]).max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_one_hot_pixel_makes_no_other_black(dtype: type[np.generic]) -> None:
    ramp = np.linspace(0, 100_000, 10_000).reshape(100, 100).astype(dtype)
    ramp[50, 50] = 2e9
    assert np.abs(pixels_of(deep_tiff(ramp))[..., 0] - np.linspace(0, 255, 10_000).reshape(100, 100)).mean() < 2


def test_a_drawing_of_a_few_deep_pixels_is_seen() -> None:
    drawing = np.zeros((100, 100), np.int32)
    drawing[50, :20] = 2**30
    assert sorted(set(pixels_of(deep_tiff(drawing)).reshape(-1).tolist())) == [0, 255]


@pytest.mark.parametrize("value", [0.0, 1.0, 300.0, -5.0, 1e38])
def test_a_deep_picture_of_one_value_is_one_colour(value: float) -> None:
    assert pixels_of(deep_tiff(np.full((8, 8), value, np.float32))).std() == 0


def test_floats_that_pass_black_and_white_a_little_keep_both() -> None:
    ramp = np.linspace(-0.05, 1.05, 256, dtype=np.float32).reshape(16, 16)
    expected = np.clip(ramp * 255 + 0.5, 0, 255).astype(np.uint8)
    assert np.array_equal(pixels_of(deep_tiff(ramp))[..., 0], expected)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, -1e38])
def test_odd_floats_give_some_pixels(odd: float) -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    ramp[0, 0] = odd
    assert pixels_of(encode(Image.fromarray(ramp), "TIFF")).shape == (16, 16, 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "CMYK", "I;16", "I", "F"])
def test_a_large_picture_is_converted_in_strips_to_the_same_pixels(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 30, 4), np.uint8)
    options: dict[str, object] = {}
    if mode in ("I;16", "I", "F"):
        values = noise.astype(np.int64)[..., 0] * 256 + noise[..., 1]
        values[:49] //= 256  # so that only the last strip tells which value is white
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        data = encode(Image.fromarray((values / (65_535 if mode == "F" else 1)).astype(dtype)), "TIFF")
    else:
        picture = Image.fromarray(noise).convert("RGB" if mode == "P" else mode)
        if mode == "P":
            picture, options = picture.quantize(16), {"transparency": bytes(range(0, 256, 16))}
        data = encode(picture, "PNG" if mode != "CMYK" else "TIFF", **options)
    whole = pixels_of(data)
    monkeypatch.setattr("imgrec.storage.photos.deep._STRIP_PIXELS", 30 * 7)
    assert np.array_equal(pixels_of(data), whole)
    assert whole.std() > 1


# Formats and shapes


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_of_many_frames_the_first_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options: dict[str, object] = {"duration": 100} if format != "TIFF" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert pixels_of(data)[4, 4].tolist() == pytest.approx([250, 0, 0], abs=8)


@pytest.mark.parametrize("format", [*LOSSLESS, *LOSSY])
@pytest.mark.parametrize("size", [(1, 1), (2_000, 1), (1, 2_000)])
def test_any_shape_keeps_its_size(format: str, size: tuple[int, int]) -> None:
    data = encode(Image.new("RGB", size, (9, 9, 9)), format)
    assert pixels_of(data).shape == (size[1], size[0], 3)
    assert read_header(data)[:2] == size


def test_content_counts_and_not_the_name() -> None:
    assert read_header(encode(blocks(), "GIF")) == Header(48, 32, "GIF")


def test_the_header_has_the_size_before_orientation() -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    assert read_header(encode(blocks(), "JPEG", exif=exif)) == Header(48, 32, "JPEG")


def test_heif_is_read_where_its_extra_is_installed() -> None:
    if not heif_is_written():
        pytest.skip("no HEIF encoder in this build of pillow-heif")
    data = encode(blocks(), "HEIF", quality=95)
    assert read_header(data) == Header(48, 32, "HEIF")
    assert np.abs(pixels_of(data).astype(int) - np.asarray(blocks()).astype(int)).mean() < 5


def test_avif_is_read() -> None:
    assert features.check("avif")
    assert read_header(encode(blocks(), "AVIF")) == Header(48, 32, "AVIF")


def test_formats_that_run_other_programs_are_not_read() -> None:
    eps = encode(blocks(), "EPS")
    assert status_of(eps) == "not_an_image"


# What cannot be used


def test_nothing_is_empty() -> None:
    assert status_of(b"") == "empty"


@pytest.mark.parametrize("data", [b"just text", b"\0" * 100, b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_other_content_is_not_an_image(data: bytes) -> None:
    assert status_of(data) == "not_an_image"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xd8\xff no picture", "it begins like JPEG, but its header cannot be read: "),
        (b"\x89PNG\r\n\x1a\n\0\0\0\1\x1b\n\x80\0", "it begins like PNG, but its header cannot be read: "),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "it begins like TIFF, but its header cannot be read: "),
        (b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\2", "it begins like GIF, .*: it has no pixels"),
    ],
)
def test_a_damaged_header_is_told_from_other_content(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        read_header(data)
    assert caught.value.status == "corrupt"
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_truncated_file_is_corrupt(format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = encode(noise, format)
    assert status_of(data[: len(data) * 2 // 3]) == "corrupt"


@pytest.mark.parametrize(
    ("mode", "rows", "zeros"), [("RGB", 0, 0), ("RGB", 2, 0), ("RGB", 2, 999), ("L", 0, 0), ("CMYK", 0, 0)]
)
def test_a_truncated_jpeg_that_has_an_end_is_corrupt(
    mode: str, rows: int, zeros: int, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
    whole = encode(Image.fromarray(noise).convert(mode), "JPEG", restart_marker_rows=rows)
    with pytest.raises(ImageError, match="a part of its data is missing") as caught:
        decode(whole[: len(whole) // 2] + bytes(zeros) + b"\xff\xd9", 100, 256)
    assert caught.value.status == "corrupt"
    decode(whole, 100, 256)
    assert capfd.readouterr().err == ""


def test_a_whole_jpeg_may_end_in_grey(capfd: pytest.CaptureFixture[str]) -> None:
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    assert (decode(encode(grey, "JPEG"), 64, 256) == 128).all()
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_a_picture_beyond_the_limit_is_too_large() -> None:
    data = encode(Image.new("RGB", (1_001, 1_000)), "PNG")
    assert status_of(data, max_megapixels=1) == "too_large"
    assert pixels_of(data, max_megapixels=1.1).shape == (1_000, 1_001, 3)


def test_a_file_that_promises_too_many_pixels_is_not_decoded() -> None:
    """They would be 2.7 GB, of a file of 100 bytes."""
    data = bytearray(encode(blocks(), "PNG"))
    struct.pack_into(">II", data, 16, 30_000, 30_000)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    assert status_of(bytes(data)) == "too_large"


def test_the_limit_is_about_the_size_that_is_decoded() -> None:
    data = encode(Image.new("RGB", (2_000, 2_000)), "JPEG")
    assert pixels_of(data, min_side=448, max_megapixels=0.3).shape == (500, 500, 3)


# JPEG's smaller scales


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([64, 100, 448]))
@settings(max_examples=60)
@example(896, 896, 448)
@example(895, 895, 448)
@example(513, 65, 64)
def test_a_jpeg_keeps_its_smallest_side_at_the_smallest_scale_that_does(width: int, height: int, min_side: int) -> None:
    pixels = pixels_of(encode(Image.new("RGB", (width, height), (9, 99, 199)), "JPEG"), min_side)
    scales = [s for s in (1, 2, 4, 8) if s == 1 or min(width // s, height // s) >= min_side]
    assert pixels.shape == (-(-height // scales[-1]), -(-width // scales[-1]), 3)
    assert min(pixels.shape[:2]) >= min(min_side, width, height)


def test_other_formats_are_never_scaled() -> None:
    assert pixels_of(encode(Image.new("RGB", (2_000, 1_000)), "PNG"), 64).shape == (1_000, 2_000, 3)


def test_a_grey_jpeg_and_a_jpeg_of_inks_are_scaled_too() -> None:
    for mode in ("L", "CMYK"):
        assert pixels_of(encode(Image.new(mode, (2_000, 1_000)), "JPEG"), 448).shape == (500, 1_000, 3)


def test_decoding_twice_gives_the_same_bytes() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1_000, 900, 3), np.uint8))
    data = encode(noise, "JPEG")
    first, small, again = decode(data, 448, 256), decode(data, 64, 256), decode(data, 448, 1)
    assert first.tobytes() == again.tobytes()
    assert small.shape != first.shape


# Anything at all


def pictures_of_packages() -> list[Path]:
    found = []
    for package in ("skimage", "sklearn", "matplotlib", "networkx", "mlflow"):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            suffixes = photo_suffixes()
            found += [p for p in sorted(Path(spec.origin).parent.rglob("*")) if p.suffix.lower() in suffixes]
    return found


def test_every_picture_of_installed_packages_is_pixels_or_an_image_error() -> None:
    decoded = 0
    paths = pictures_of_packages()
    for path in paths:
        try:
            pixels_of(path.read_bytes())
        except ImageError as error:
            assert error.status in ("not_an_image", "corrupt"), path
        else:
            decoded += 1
    assert decoded > 20
    assert decoded >= 0.9 * len(paths)


@cache
def samples() -> dict[str, bytes]:
    """A small file of every kind that is read, some with what makes them interesting: EXIF, palettes, frames."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    made: dict[str, Callable[[], bytes]] = {
        "JPEG": lambda: encode(blocks(), "JPEG", exif=exif),
        "progressive JPEG": lambda: encode(blocks(), "JPEG", progressive=True),
        "CMYK JPEG": lambda: encode(blocks().convert("CMYK"), "JPEG"),
        "PNG": lambda: encode(blocks(), "PNG", exif=exif),
        "palette PNG": lambda: encode(blocks().quantize(8), "PNG", transparency=bytes(range(8))),
        "16-bit PNG": lambda: encode(grey_ramp(np.uint16), "PNG"),
        "animated PNG": lambda: encode(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "GIF": lambda: encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "WebP": lambda: encode(blocks(), "WEBP", exif=exif),
        "animated WebP": lambda: encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "TIFF": lambda: encode(blocks(), "TIFF", exif=exif),
        "LZW TIFF": lambda: encode(blocks(), "TIFF", compression="tiff_lzw"),
        "JPEG TIFF": lambda: encode(blocks(), "TIFF", compression="jpeg"),
        "float TIFF": lambda: encode(Image.new("F", (8, 8), 0.5), "TIFF"),
        "AVIF": lambda: encode(blocks(), "AVIF", exif=exif),
        "BMP": lambda: encode(blocks(), "BMP"),
        "palette BMP": lambda: encode(blocks().quantize(8), "BMP"),
    }
    if heif_is_written():
        made["HEIF"] = lambda: encode(blocks(), "HEIF", exif=exif.tobytes())
    return {name: make() for name, make in made.items()}


def check_anything(data: bytes) -> None:
    # Pillow warns of much that is odd; outside of tests that stops nothing, so neither here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = read_header(data)
        except ImageError as error:
            assert error.status in ("empty", "not_an_image", "corrupt")
            header = None
        try:
            pixels_of(data, max_megapixels=1)
        except ImageError as error:
            assert error.status in ("empty", "not_an_image", "corrupt", "too_large")
        else:
            assert header is not None
            assert min(header[:2]) > 0


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_random_bytes_are_pixels_or_an_image_error(data: bytes) -> None:
    check_anything(data)


@given(st.sampled_from(sorted(samples())), st.binary(max_size=60))
@settings(max_examples=200)
def test_a_magic_number_and_random_bytes_are_pixels_or_an_image_error(kind: str, rest: bytes) -> None:
    check_anything(samples()[kind][:20] + rest)


@given(
    st.sampled_from(sorted(samples())),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.one_of(st.none(), st.floats(0, 1)),
)
@settings(max_examples=600)
def test_a_damaged_picture_is_pixels_or_an_image_error(
    kind: str, flips: list[tuple[float, int]], cut: float | None
) -> None:
    data = bytearray(samples()[kind])
    for place, value in flips:
        data[int(place * len(data))] = value
    check_anything(bytes(data if cut is None else data[: int(cut * len(data))]))


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_a_picture_without_pixels_is_no_picture(size: tuple[int, int]) -> None:
    gif = bytearray(encode(Image.new("P", (5, 5)), "GIF"))
    struct.pack_into("<HH", gif, 6, *size)
    bmp = bytearray(encode(blocks(), "BMP"))
    struct.pack_into("<ii", bmp, 18, *size)
    png = bytearray(encode(blocks(), "PNG"))
    struct.pack_into(">II", png, 16, *size)
    struct.pack_into(">I", png, 29, zlib.crc32(png[12:29]))
    for data in (gif, bmp, png):
        check_anything(bytes(data))


def test_decoding_warns_of_nothing() -> None:
    """What Pillow warns of would reach the user's terminal from every worker, and name no file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for kind, data in samples().items():
            for place in range(0, len(data), max(1, len(data) // 30)):
                damaged = bytearray(data)
                damaged[place] ^= 0xFF
                for some in (bytes(damaged), data[:place]):
                    try:
                        decode(some, MIN_SIDE, 1)
                    except ImageError:
                        continue
                    except Exception as error:
                        raise AssertionError(kind) from error
    assert sorted({str(warning.message) for warning in caught}) == []


# Names for people


def test_names_that_are_not_utf8_can_be_printed() -> None:
    assert printable(b"caf\xe9.png") == "caf\\xe9.png"
    assert printable("ok \N{CAMERA}.png") == "ok \N{CAMERA}.png"
    printable("caf\udce9").encode()
