"""Make embedders/data/sift-default.npz from photos in Debian packages: `python -m benchmarks.make_sift_codebook`.

The photos are under CC0, CC BY, CC BY-SA or the GPL (see NOTICE), and no quality benchmark uses them. They are fetched
with apt, unpacked to a temporary folder, and nothing of them is kept but the model: PCA axes and 64 mean descriptors.
"""

import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from imgrec.embedders.modalities.sift import Floats, describe
from imgrec.embedders.modalities.sift_training import train_codebook
from imgrec.storage.errors import ImageError
from imgrec.storage.photos.decoding import decode
from imgrec.storage.photos.walk import WalkReport, walk_photos

PACKAGES = ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "mate-backgrounds", "ukui-wallpapers")
TARGET = Path(__file__).parent.parent / "embedders" / "data" / "sift-default.npz"
# Windows of each photo, as a share of its sides, at seeded places: patterns of many sizes from few photos.
WINDOWS = (1.0, 0.7, 0.7, 0.5, 0.5, 0.5, 0.35, 0.35, 0.35, 0.35)


def main() -> None:
    """Fetch, describe, train, write."""
    random = np.random.default_rng(0)
    cv2.setNumThreads(1)
    descriptors = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for package in PACKAGES:
            subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
            (deb,) = folder.glob(f"{package}_*.deb")
            subprocess.run(["dpkg", "-x", deb, folder / package], check=True)
        found = sorted(file.path for file in walk_photos(folder, WalkReport()))
        for path in found:
            descriptors += _windows(folder / path, random)
    model = train_codebook(descriptors)
    TARGET.parent.mkdir(exist_ok=True)
    model.save(TARGET)
    print(f"model {model.digest}: {len(found)} photos, {sum(map(len, descriptors)):,} descriptors → {TARGET}")


def _windows(path: Path, random: np.random.Generator) -> list[Floats]:
    try:
        photo = Image.fromarray(decode(path.read_bytes(), 1_024, max_megapixels=256))
    except ImageError:
        return []
    described = []
    for share in WINDOWS:
        width, height = (max(1, int(side * share)) for side in photo.size)
        left, top = int(random.integers(photo.width - width + 1)), int(random.integers(photo.height - height + 1))
        descriptors, _ = describe(np.asarray(photo.crop((left, top, left + width, top + height))))
        described.append(descriptors)
    return described


if __name__ == "__main__":
    main()
