"""Bytes of an image file → pixels: oriented, opaque, RGB."""

import io
import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from imgrec.storage.errors import CRASHED_DECODER, DECODER_HANGS, NOT_AN_IMAGE, OUT_OF_MEMORY, TOO_LARGE, ImageError
from imgrec.storage.machine.pool import WorkerDiedError
from imgrec.storage.machine.quiet import ignore_warnings
from imgrec.storage.machine.stderr import take_stderr
from imgrec.storage.photos.deep import is_deep, levels_of, strips
from imgrec.storage.photos.exif import NO_EXIF, Exif, exif_of, exif_of_raw
from imgrec.storage.photos.formats import HEAD_BYTES, HEIF, JXL, how_to_install, is_installed, needed_extra
from imgrec.storage.photos.jxl import jxl_size
from imgrec.storage.photos.limits import limit
from imgrec.storage.photos.profiles import IGNORED, SRGB, to_srgb
from imgrec.storage.photos.raw import develop, is_raw, preview_of, raw_size
from imgrec.storage.photos.repairs import MAX_CHUNK_BYTES, repairs

# Read by content, whatever the name; nothing here runs another program (as Pillow's EPS reader would).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM", "JPEG2000", "DIB")
RAW_FORMAT = "RAW"
ORIENTATION_TAG = 0x0112
# A picture of one pixel, as a GIF: where this ends a worker too, it is no picture's fault.
PLAIN = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
_REASON_LENGTH = 300
# What is over white nowhere darker than that does not show: SIFT finds nothing in it, and efficientnet little.
WHITE, _NEARLY_WHITE, _GREY = 255, 248, 128
# Pillow hands libtiff bytes under this name.
_LIBTIFF_NAME = "tempfile.tif: "
# What Pillow says of a width or height of nothing, and of any failure of libtiff.
_PLAIN_WORDS = {"not identified by this driver": "it has no pixels", "decoder error -2": "the decoder gave up"}
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_PILLOW = r"(PIL|pillow_heif|pillow_jxl)\b"

# Pillow's own limit warns or raises by a fixed size; ours is a setting, checked on the size that will be decoded.
Image.MAX_IMAGE_PIXELS = None
# Beyond this one, Pillow refuses a picture for its texts or its profile; 1 MB is less than some have.
PngImagePlugin.MAX_TEXT_CHUNK = MAX_CHUNK_BYTES
# It logs some damage as errors, without the picture's name, which would reach the terminal as they are.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class Header(NamedTuple):
    """Size as stored in the file (before EXIF orientation), in pixels, the format of the content, date and camera."""

    width: int
    height: int
    format: str
    exif: Exif = NO_EXIF


def read_header(data: bytes) -> Header:
    """Read size and format without decoding.

    Raises:
        ImageError: `empty`, `not_an_image`, or `corrupt`.
    """
    try:
        return _read_header(data)
    except ImageError as error:
        if error.status != "corrupt" or not (repaired := repairs(data)):
            raise
    return _read_header(repaired[0])


def _read_header(data: bytes) -> Header:
    if is_raw(data):
        return Header(*raw_size(data), RAW_FORMAT, exif_of_raw(io.BytesIO(data)))
    if is_installed(JXL) and (size := jxl_size(data)) is not None:
        return Header(*size, "JXL")
    with _opened(data) as image:
        return Header(image.width, image.height, image.format or "", exif_of(image))


def read_exif(file: BinaryIO, format_: str) -> Exif:
    """Read date and camera of a photo of a known format, and no more of it than its header; nothing where that fails.

    Of a JPEG XL nothing is read: to open one is to decode it.
    """
    if format_ == RAW_FORMAT:
        return exif_of_raw(file)
    if format_ == "JXL":
        return NO_EXIF
    ignore_warnings(_PILLOW)
    try:
        with np.errstate(all="ignore"), Image.open(file, formats=_formats()) as image:
            return exif_of(image)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - any damage of a header that was read before
        return NO_EXIF


def decode(data: bytes, min_side: int, max_megapixels: float, icc_profiles: str = IGNORED) -> NDArray[np.uint8]:
    """Decode to RGB uint8 (H, W, 3): EXIF-oriented, alpha over white (white art over grey), first frame.

    What is damaged in a file without harm to its pixels does not matter (repairs.py). Where `icc_profiles` is `srgb`,
    colours are converted by the profile inside (profiles.py); where it is `ignored`, numbers stay.

    JPEGs are decoded at the smallest of libjpeg's scales (1, 1/2, 1/4, 1/8) that keeps both sides at least `min_side`
    pixels long (https://pillow.readthedocs.io/en/stable/reference/Image.html#PIL.Image.Image.draft). The scale
    depends on the image and `min_side` only.

    Raises:
        ImageError: `empty`, `not_an_image`, `corrupt` (truncated files included), or `too_large`.
    """
    try:
        return _decode(data, min_side, max_megapixels, icc_profiles)
    except ImageError as error:
        if error.status != "corrupt" or not (repaired := repairs(data)):
            raise
        pixels, *others = (_decode(each, min_side, max_megapixels, icc_profiles) for each in repaired)
        if not all(np.array_equal(other, pixels) for other in others):
            raise
        return pixels


def _decode(data: bytes, min_side: int, max_megapixels: float, icc_profiles: str) -> NDArray[np.uint8]:
    if is_raw(data):
        return _decode_raw(data, min_side, max_megapixels, icc_profiles)
    if is_installed(JXL) and (size := jxl_size(data)) is not None:
        _refuse_too_large(*size, max_megapixels)  # to open one is to decode it
    with _opened(data) as image:
        if image.format in ("JPEG", "MPO"):
            image.draft("RGB", (min_side, min_side))
        _refuse_too_large(image.width, image.height, max_megapixels)
        try:
            image.load()
            if image.format in ("JPEG", "MPO") and _is_padded(image, data):
                raise EOFError("a part of its data is missing")
            return _rgb_pixels(_orient(image), icc_profiles)
        except (MemoryError, ImageError):
            raise
        except Exception as error:
            said = printable_line(take_stderr().removeprefix(_LIBTIFF_NAME))
            raise ImageError("corrupt", f"cannot be decoded: {_one_line(error)}{said and f': {said}'}") from error


def _refuse_too_large(width: int, height: int, max_megapixels: float) -> None:
    if width * height > max_megapixels * 1e6:
        raise ImageError(TOO_LARGE, f"{width}×{height} pixels are more than {limit('max_megapixels', max_megapixels)}")


def _decode_raw(data: bytes, min_side: int, max_megapixels: float, icc_profiles: str) -> NDArray[np.uint8]:
    """Take the preview of a raw picture, which the camera has made, or where it is too small develop it ourselves."""
    width, height = raw_size(data)
    preview = preview_of(data)
    if preview is not None:
        header = read_header(preview.jpeg)
        if min(header.width, header.height) >= min(min_side, width // 2, height // 2):
            pixels = decode(preview.jpeg, min_side, max_megapixels, icc_profiles)
            with _opened(preview.jpeg) as image:
                turned = ORIENTATION_TAG in image.getexif()
            return pixels if turned else np.ascontiguousarray(np.rot90(pixels, preview.turns))
    _refuse_too_large(width // 2, height // 2, max_megapixels)
    return develop(data)


def decoder_failure(death: Exception, decode_timeout_s: float) -> ImageError:
    """Put into words that decoding an image ended its worker (WorkerDiedError), or took all memory (MemoryError)."""
    if not isinstance(death, WorkerDiedError):
        return ImageError(OUT_OF_MEMORY, "there is not enough memory to decode it")
    if death.killed:  # as the kernel does to who takes most when memory is used up; nothing else kills alone, twice
        return ImageError(OUT_OF_MEMORY, f"there is not enough memory to decode it: {death}")
    if death.timed_out:
        return ImageError(DECODER_HANGS, f"decoding takes longer than {limit('decode_timeout_s', decode_timeout_s)}")
    return ImageError(CRASHED_DECODER, f"decoding it fails each time: {death}")


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    if not data:
        raise ImageError("empty", "the file is empty")
    take_stderr()  # of the picture before
    ignore_warnings(_PILLOW)  # oddities (a damaged EXIF block) that are no reason to refuse a picture
    with np.errstate(all="ignore"), _open(data) as image:  # NaN in a TIFF of floats
        yield image


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError("corrupt", f"the header cannot be read: {_one_line(error)}") from error


def _unidentified(data: bytes) -> ImageError:
    """Tell a damaged header from other content: Pillow says of both that it cannot identify them."""
    for name in _formats():
        factory, accept = Image.OPEN[name]
        if accept is None or accept(data[:16].ljust(16, b"\0")) is not True:
            continue
        try:
            factory(io.BytesIO(data), "").close()
        except (SyntaxError, IndexError, TypeError, struct.error) as error:  # what Image.open takes for "not this one"
            return ImageError("corrupt", f"it begins like {name}, but its header cannot be read: {_one_line(error)}")
    if (extra := needed_extra(data[:HEAD_BYTES])) is not None:
        return ImageError(NOT_AN_IMAGE, f"it is {extra.reads}, and needs an extra: {how_to_install(extra)}")
    return ImageError(NOT_AN_IMAGE, "the content is none of the image formats that are read")


@cache
def _formats() -> tuple[str, ...]:
    """The formats that Pillow is to read; it learns those of the extras that are installed."""
    found = [*FORMATS]
    if is_installed(HEIF):
        import pillow_heif

        pillow_heif.register_heif_opener()
        found.append("HEIF")
    if is_installed(JXL):
        from pillow_jxl import JpegXLImagePlugin  # registers itself

        JpegXLImagePlugin.DECODE_THREADS = 0  # a worker has one core
        found.append("JXL")
    return tuple(found)


def _is_padded(image: Image.Image, data: bytes) -> bool:
    """Whether libjpeg ran out of data before the end of the picture; Pillow drops its warning.

    It fills the rest with middle grey. Where there is some in the last corner, libjpeg's complaint is asked for: a
    picture may as well be grey there.
    """
    corner = image.getpixel((image.width - 1, image.height - 1))
    values = corner if isinstance(corner, tuple) else (corner,)
    if any(value not in (127, 128) for value in values):
        return False
    # Imports OpenCV, which a header or a search by id do without.
    from imgrec.storage.photos.libjpeg import libjpeg_complaint

    try:
        said = libjpeg_complaint(data)
    except WorkerDiedError as death:
        raise decoder_failure(death, 0) from death
    return "JPEG" in said and "extraneous bytes" not in said  # which are too many, and after the picture


def _orient(image: Image.Image) -> Image.Image:
    """Turn a loaded picture upright (loading a TIFF has done that already, and taken the tag away).

    A JPEG XL says it in its codestream, which libjxl follows, and EXIF counts only where it is a packed JPEG.
    """
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return image
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, EOFError, IndexError, OverflowError):
        orientation = 1  # a damaged EXIF block says nothing; the picture itself is fine
    method = _TRANSPOSE.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _rgb_pixels(image: Image.Image, icc_profiles: str) -> NDArray[np.uint8]:
    """Convert to RGB over white, or over mid-grey what does not show on white."""
    of_8_bits = _profiled_to_rgb if icc_profiles == SRGB else _to_rgb
    convert = levels_of(image).to_rgb if is_deep(image) else of_8_bits
    pixels = _convert(image, convert, WHITE)
    if image.has_transparency_data and pixels.min() >= _NEARLY_WHITE:
        on_grey = _convert(image, convert, _GREY)
        if (on_grey != _GREY).any():  # it is not all transparent
            return on_grey
    return pixels


def _convert(
    image: Image.Image, to_rgb: Callable[[Image.Image, int], Image.Image], background: int
) -> NDArray[np.uint8]:
    """Convert in strips, so that a large picture takes little more memory than its pixels."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, strip in strips(image):
        pixels[top : top + strip.height] = np.asarray(to_rgb(strip, background))
    return pixels


def _profiled_to_rgb(image: Image.Image, background: int) -> Image.Image:
    return _to_rgb(to_srgb(image), background)


def _to_rgb(image: Image.Image, background: int) -> Image.Image:
    if image.has_transparency_data:
        foreground = image.convert("RGBA")
        behind = Image.new("RGBA", foreground.size, (background, background, background, 255))
        return Image.alpha_composite(behind, foreground).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _one_line(error: Exception) -> str:
    text = str(error)
    return printable_line(_PLAIN_WORDS.get(text, text)) or type(error).__name__


def printable_line(text: str) -> str:
    """Make one line of what a decoder says, which may quote the file's bytes."""
    line = " ".join(text.split())[:_REASON_LENGTH]
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
