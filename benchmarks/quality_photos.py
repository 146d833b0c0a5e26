"""What benchmarks.quality measures with: real photos in classes, and distorted copies of them."""

import io
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from benchmarks.harness import BENCH
from benchmarks.pictures import real_pictures
from imgrec.storage.photos.decoding import decode
from imgrec.storage.photos.walk import WalkReport, walk_photos

PACKAGE = "tuxpaint-stamps-default"
NO_PHOTOS = ("symbols/", "cartoon", "flags", "roadsigns", "money")
COLLAGE = "collage"
# What SIFT is measured on, among all originals.
NINE = ("q15", "crop", "rotated", "grey", "blurred", "third", "brighter", "text", COLLAGE)


def load_photos(smallest_side: int) -> list[tuple[str, Image.Image]]:
    """Return (class, photo) pairs, no photo twice; photos of installed packages are a class of their own each.

    Args:
        smallest_side: smaller stamps are left out; the median stamp has 131 pixels, the smallest 7.
    """
    folder = BENCH / PACKAGE
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=BENCH) as temporary:
            subprocess.run(["apt-get", "download", "-qq", PACKAGE], cwd=temporary, check=True)
            (deb,) = Path(temporary).glob("*.deb")
            subprocess.run(["dpkg", "-x", deb, folder], check=True)
    stamps = folder / "usr" / "share" / "tuxpaint" / "stamps"
    paths = [file.path for file in walk_photos(stamps, WalkReport())]
    photos = [
        (str(Path(path).parent), load(stamps / path)) for path in paths if not any(word in path for word in NO_PHOTOS)
    ]
    photos = [(name, image) for name, image in photos if min(image.size) >= smallest_side]
    photos += [(path.name, load(path)) for path in real_pictures()]
    once = {image.tobytes(): (name, image) for name, image in reversed(photos)}  # one is in two folders
    return list(reversed(once.values()))


def load(path: Path) -> Image.Image:
    image = Image.fromarray(decode(path.read_bytes(), 448, max_megapixels=256))
    image.thumbnail((1_000, 1_000))
    return image


def distort(
    image: Image.Image, photos: list[Image.Image], random: np.random.Generator
) -> tuple[dict[str, Image.Image], NDArray[np.int64]]:
    """Return fourteen distorted copies of a photo, and the places of the three others that its collage shows."""
    width, height = image.size
    beside = random.choice(len(photos), 3, replace=False)
    frame = Image.new("RGB", (width * 8 // 5, height * 8 // 5), "white")
    frame.paste(image, ((frame.width - width) // 2, (frame.height - height) // 2))
    copies = {
        "q15": _recompress(image),
        "crop": _crop(image, 0.6, random),
        "rotated": image.rotate(15, Image.Resampling.BICUBIC, expand=True, fillcolor="white"),
        "grey": image.convert("L").convert("RGB"),
        "blurred": image.filter(ImageFilter.GaussianBlur(2)),
        "third": image.resize((max(1, width // 3), max(1, height // 3)), Image.Resampling.LANCZOS),
        "brighter": ImageEnhance.Brightness(image).enhance(1.4),
        "text": _with_text(image),
        COLLAGE: _collage(image, [photos[place] for place in beside]),
        "mirrored": ImageOps.mirror(image),
        "turned": image.transpose(Image.Transpose.ROTATE_90),
        "quarter": _crop(image, 0.25, random),
        "framed": frame,
        "noisy": _with_noise(image, random),
    }
    return copies, beside


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


def _collage(image: Image.Image, others: list[Image.Image]) -> Image.Image:
    width, height = image.size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for place, tile in enumerate([image, *others]):
        sheet.paste(tile.resize((width, height)), (place % 2 * width, place // 2 * height))
    return sheet
