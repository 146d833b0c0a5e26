"""Fourteen ways in which copies of a photo differ from it: what the web, phones and people do to pictures."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

COLLAGE = "collage"
OTHERS_IN_A_COLLAGE = 3
DISTORTIONS = (
    "q15", "crop", "rotated", "grey", "blurred", "third", "brighter", "text", COLLAGE, "mirrored", "turned", "quarter",
    "framed", "noisy",
)  # fmt: skip


def distort(image: Image.Image, others: Sequence[Image.Image], random: np.random.Generator) -> dict[str, Image.Image]:
    """Return a copy of an RGB picture of each of the DISTORTIONS; its collage shows the three `others` as well."""
    width, height = image.size
    frame = Image.new("RGB", (width * 8 // 5, height * 8 // 5), "white")
    frame.paste(image, ((frame.width - width) // 2, (frame.height - height) // 2))
    return {
        "q15": _recompress(image),
        "crop": _crop(image, 0.6, random),
        "rotated": image.rotate(15, Image.Resampling.BICUBIC, expand=True, fillcolor="white"),
        "grey": image.convert("L").convert("RGB"),
        "blurred": image.filter(ImageFilter.GaussianBlur(2)),
        "third": image.resize((max(1, width // 3), max(1, height // 3)), Image.Resampling.LANCZOS),
        "brighter": ImageEnhance.Brightness(image).enhance(1.4),
        "text": _with_text(image),
        COLLAGE: _collage(image, others),
        "mirrored": ImageOps.mirror(image),
        "turned": image.transpose(Image.Transpose.ROTATE_90),
        "quarter": _crop(image, 0.25, random),
        "framed": frame,
        "noisy": _with_noise(image, random),
    }


def _crop(image: Image.Image, area: float, random: np.random.Generator) -> Image.Image:
    width, height = (max(1, int(side * area**0.5)) for side in image.size)
    left, top = int(random.integers(image.width - width + 1)), int(random.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _with_noise(image: Image.Image, random: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, np.float32)
    noisy = pixels + random.normal(0, 25, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _recompress(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=15)
    return Image.open(buffer).convert("RGB")


def _with_text(image: Image.Image) -> Image.Image:
    copy = image.copy()
    draw = ImageDraw.Draw(copy)
    draw.rectangle((0, int(image.height * 0.8), image.width, image.height), fill="black")
    place = (image.width // 10, int(image.height * 0.85))
    draw.text(place, "SOME TEXT HERE", fill="white", font_size=max(10, image.height // 10))
    return copy


def _collage(image: Image.Image, others: Sequence[Image.Image]) -> Image.Image:
    width, height = image.size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for place, tile in enumerate([image, *others]):
        sheet.paste(tile.resize((width, height)), (place % 2 * width, place // 2 * height))
    return sheet
