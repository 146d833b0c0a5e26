"""Pixels → a small WebP picture."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# The longer side of the thumbnail that every photo has, in pixels.
SIDE = 64
# By size and look: 60 takes a tenth more bytes, 40 shows blocks.
_QUALITY = 50
# Of libwebp's efforts from 0 to 6; 4 takes twice the time of 2 for 3 % fewer bytes.
_EFFORT = 2
# Pixels are first halved by averaging as long as that leaves so much more than is wanted, which is quick.
_REDUCING_GAP = 2.0


def thumbnail_of(pixels: NDArray[np.uint8], side: int = SIDE) -> bytes:
    """Shrink RGB pixels (H, W, 3) to `side` pixels on the longer side, if they have more, and encode them."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP)
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=_QUALITY, method=_EFFORT)
    return encoded.getvalue()
