"""Colour profiles inside of pictures: the same numbers mean other colours in each, so they are converted to sRGB."""

import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

# The values of the setting `icc_profiles`; libraries made before there was one ignore profiles.
SRGB, IGNORED = "srgb", "ignored"
# Colour spaces of profiles (table 19 of https://www.color.org/specification/ICC.1-2022-05.pdf): the modes
# of pictures that they are for, and the one that is converted.
_SPACES = {
    "RGB ": (("RGB", "RGBA", "P", "PA"), "RGB"),
    "GRAY": (("L", "LA"), "L"),
    "CMYK": (("CMYK",), "CMYK"),
}
_TRANSFORMS = 64
# A profile that changes no colour by more than that is one of the many that are sRGB.
_EQUAL = 2


def profiles_of(vector_settings: Mapping[str, Any]) -> str:
    """What a library's pictures were decoded with: `srgb` or `ignored`."""
    return str(vector_settings.get("icc_profiles", IGNORED))


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert a picture of 8 bits a channel by the profile inside, to RGB or RGBA.

    It is returned as it is where there is none, where that is sRGB, damaged, or of other channels than the picture's.
    """
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or (transform := _transform(profile, image.mode)) is None:
        return image
    if image.mode == transform.input_mode and not image.has_transparency_data:
        return transform.apply(image)
    with_alpha = image.convert("RGBA")
    opaque = image.convert("L") if transform.input_mode == "L" else with_alpha.convert("RGB")
    converted = transform.apply(opaque)
    if image.has_transparency_data:
        converted.putalpha(with_alpha.getchannel("A"))
    return converted


@lru_cache(_TRANSFORMS)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build what converts by a profile; None where there is nothing to convert."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        modes, converted = _SPACES[opened.profile.xcolor_space]
        if mode not in modes:
            return None
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), converted, "RGB")
    except (OSError, ImageCms.PyCMSError, KeyError):
        return None
    return None if converted != "CMYK" and _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(len(levels), -1, 3)
    colours = Image.fromarray(grid).convert(transform.input_mode)
    converted = np.asarray(transform.apply(colours)).astype(int)
    return bool(np.abs(converted - np.asarray(colours.convert("RGB"))).max() <= _EQUAL)
