"""What benchmarks.quality measures with: real photos in classes."""

import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.harness import BENCH
from benchmarks.pictures import real_pictures
from imgrec.search.evaluation.distortions import COLLAGE
from imgrec.storage.photos.decoding import decode
from imgrec.storage.photos.walk import WalkReport, walk_photos

PACKAGE = "tuxpaint-stamps-default"
NO_PHOTOS = ("symbols/", "cartoon", "flags", "roadsigns", "money")
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
