"""Pictures of one channel with more than 8 bits: which of their values are black and white."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_STRIP_PIXELS = 2**22
# Floats from 0 to 1 may pass both a little, as sharpening and resampling make them do.
_FLOAT_SLACK = 0.1
# Floats up to 255 that reach no further than this would be all black: they are those of an HDR picture.
_LARGEST_OF_HDR = 16.0
# By range, so many values lie outside of it at either end: one hot pixel must not make all others black.
_OUTSIDE = 0.005
_SAMPLES = 2**20
_SAMPLE_FORMAT_TAG, _BITS_TAG = 339, 258


class Levels(NamedTuple):
    """The values that are black and white; Pillow reads `unsigned` integers of 32 bits as if they had a sign."""

    black: float
    white: float
    unsigned: bool = False

    def to_rgb(self, image: Image.Image, background: int) -> Image.Image:
        """Convert one that is deep; the value that stands for transparency becomes `background` (0 to 255)."""
        values = _values(image, self.unsigned)
        scaled = (_finite(values) - self.black) * (255.0 / (self.white - self.black)) + 0.5
        grey = np.clip(scaled, 0, 255).astype(np.uint8)
        if (transparent := image.info.get("transparency")) is not None:
            grey[values == transparent] = background
        return Image.fromarray(grey).convert("RGB")


def is_deep(image: Image.Image) -> bool:
    """Whether it is one channel of integers of more than 8 bits, or of floats."""
    return image.mode.startswith("I") or image.mode == "F"


def levels_of(image: Image.Image) -> Levels:
    """Find the levels of a deep picture: its type's where all values are inside of them, or else those of its range.

    Integers reach to 255 or 65,535, floats to 1 or 255. The range leaves out a hundredth of the values.
    """
    if image.mode.startswith("I;16"):
        return Levels(0.0, 65_535.0)
    unsigned = _is_unsigned(image)
    ends = [_ends(_values(strip, unsigned)) for _, strip in strips(image)]
    smallest, largest = min(low for low, _ in ends), max(high for _, high in ends)
    if smallest > largest:  # there is no finite value
        return Levels(0.0, 1.0)
    slack = _FLOAT_SLACK if image.mode == "F" else 0.0
    for top in (1.0, 255.0) if image.mode == "F" else (255.0, 65_535.0):
        is_hdr = image.mode == "F" and 1.0 + slack < largest <= _LARGEST_OF_HDR
        if smallest >= -slack * top and largest <= (1.0 + slack) * top and not is_hdr:
            return Levels(0.0, top, unsigned)
    low, high = _range(image, unsigned)
    if low == high:
        low, high = smallest, largest
    return Levels(low, high if high > low else math.inf, unsigned)


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Cut a large picture into strips: the row that each begins with, and the strip."""
    rows = max(1, _STRIP_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _is_unsigned(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    return image.mode == "I" and tags.get(_BITS_TAG) == (32,) and tags.get(_SAMPLE_FORMAT_TAG, (1,)) == (1,)


def _values(image: Image.Image, unsigned: bool) -> NDArray[np.generic]:
    values: NDArray[np.generic] = np.asarray(image)
    return values.view(np.uint32) if unsigned else values


def _ends(values: NDArray[np.generic]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.inf, -math.inf)


def _range(image: Image.Image, unsigned: bool) -> tuple[float, float]:
    step = math.ceil(math.sqrt(image.width * image.height / _SAMPLES))
    values = np.concatenate([_values(strip, unsigned)[::step, ::step].reshape(-1) for _, strip in strips(image)])
    low, high = np.quantile(values[np.isfinite(values)].astype(np.float64), (_OUTSIDE, 1 - _OUTSIDE))
    return float(low), float(high)


def _finite(values: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
