"""Real pictures that installed packages of free licence ship (see NOTICE), and copies distorted as the web does it."""

import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

# package → folder inside it, and the pictures that are photographs (not test patterns).
SOURCES: dict[str, tuple[str, tuple[str, ...]]] = {
    "skimage": (
        "data",
        (
            "astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "coffee.png", "coins.png",
            "color.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
            "page.png", "retina.jpg", "rocket.jpg", "text.png",
        ),
    ),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
    "matplotlib": ("mpl-data/sample_data", ("grace_hopper.jpg",)),
}  # fmt: skip


class PicturesMissingError(LookupError):
    """The [demo] extra, whose packages bring the pictures, is not installed."""


def real_pictures() -> list[Path]:
    """The paths of some twenty real pictures inside installed packages, in a fixed order."""
    found = []
    for package, (folder, names) in SOURCES.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise PicturesMissingError(f"{package} is not installed: pip install 'image-recommender[demo]'")
        found += [path for name in names if (path := Path(spec.origin).parent / folder / name).is_file()]
    return found


def _recompressed(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=15)
    return Image.open(buffer).convert("RGB")


def _cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((width // 8, height // 8, width - width // 8, height - height // 8))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "small": lambda picture: picture.resize((max(1, picture.width // 3), max(1, picture.height // 3))),
    "cropped": _cropped,
    "recompressed": _recompressed,
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.25),
    "mirrored": ImageOps.mirror,
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(3)),
}


def write_pictures(folder: Path, copies: bool = True) -> list[Path]:
    """Write the real pictures to `folder`, byte for byte, and a JPEG of every kind of near-copy to `folder/copies`."""
    written = []
    for source in real_pictures():
        target = folder / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        written.append(target)
        if copies:
            picture = Image.open(source).convert("RGB")
            for kind, distort in COPIES.items():
                copy = folder / "copies" / f"{source.stem}-{kind}.jpg"
                copy.parent.mkdir(exist_ok=True)
                distort(picture).save(copy, quality=88)
                written.append(copy)
    return written
