"""Bytes of an image file → pixels: oriented, opaque, RGB."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from storage.errors import ImageError

# Read by content, whatever the name; nothing here runs another program (as Pillow's EPS reader would).
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's own limit warns or raises by a fixed size; ours is a setting, checked on the size that will be decoded.
Image.MAX_IMAGE_PIXELS = None


class Header(NamedTuple):
    """Size as stored in the file (before EXIF orientation), in pixels, and the format of the content."""

    width: int
    height: int
    format: str


def read_header(data: bytes) -> Header:
    """Read size and format without decoding.

    Raises:
        ImageError: `empty`, or `not_an_image`.
    """
    with _opened(data) as image:
        return Header(image.width, image.height, image.format or "")


def decode(data: bytes, min_side: int, max_megapixels: float) -> NDArray[np.uint8]:
    """Decode to RGB uint8 (H, W, 3): EXIF-oriented, alpha over white, first frame.

    JPEGs are decoded at the smallest of libjpeg's scales (1, 1/2, 1/4, 1/8) that keeps both sides at least `min_side`
    pixels long (https://pillow.readthedocs.io/en/stable/reference/Image.html#PIL.Image.Image.draft). The scale
    depends on the image and `min_side` only.

    Raises:
        ImageError: `empty`, `not_an_image`, `corrupt` (truncated files included), or `too_large`.
    """
    with _opened(data) as image:
        if image.format in ("JPEG", "MPO"):
            image.draft("RGB", (min_side, min_side))
        if image.width * image.height > max_megapixels * 1e6:
            raise ImageError(
                "too_large",
                f"{image.width}×{image.height} pixels are more than max_megapixels = {max_megapixels:g}",
            )
        try:
            image.load()
            oriented = _orient(image)
            return np.ascontiguousarray(np.asarray(_to_rgb(oriented)))
        except MemoryError:
            raise
        except Exception as error:
            raise ImageError("corrupt", f"cannot be decoded: {_one_line(error)}") from error


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    if not data:
        raise ImageError("empty", "the file is empty")
    _register_heif()
    # Pillow warns of oddities (a damaged EXIF block) that are no reason to refuse a picture.
    with warnings.catch_warnings(action="ignore"), _open(data) as image:
        yield image


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError:
        raise ImageError("not_an_image", "the content is none of the image formats that are read") from None
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError("corrupt", f"the header cannot be read: {_one_line(error)}") from error


_heif_state: list[bool] = []


def _register_heif() -> None:
    """Teach Pillow HEIF once, where the [heif] extra is installed."""
    if _heif_state:
        return
    try:
        import pillow_heif
    except ImportError:
        _heif_state.append(False)
    else:
        pillow_heif.register_heif_opener()
        _heif_state.append(True)


def _formats() -> tuple[str, ...]:
    return (*FORMATS, "HEIF") if _heif_state[0] else FORMATS


def _orient(image: Image.Image) -> Image.Image:
    """Turn a loaded picture upright (loading a TIFF has done that already, and taken the tag away)."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, EOFError, IndexError, OverflowError):
        orientation = 1  # a damaged EXIF block says nothing; the picture itself is fine
    method = _TRANSPOSE.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        grey = _to_8_bits(values)
        if (transparent := image.info.get("transparency")) is not None:
            grey[values == transparent] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        foreground = image.convert("RGBA")
        white = Image.new("RGBA", foreground.size, "white")
        return Image.alpha_composite(white, foreground).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale one channel of 16-bit integers (or of floats in [0, 1] or [0, 255]) to [0, 255]."""
    numbers = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    if values.dtype.kind == "f":
        top = 255.0 if numbers.max(initial=0.0) > 1.0 else 1.0
    else:
        top = 65535.0 if numbers.max(initial=0.0) > 255.0 or values.dtype.itemsize == 2 else 255.0
    return np.clip(numbers * (255.0 / top) + 0.5, 0, 255).astype(np.uint8)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__


def printable(path: str | bytes) -> str:
    r"""Show a file name: bytes that are not UTF-8 as `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
