"""Vectors of some ten thousand real pictures and of crops of them: `python -m benchmarks.real_vectors [--quick]`.

The pictures are those of Debian's openclipart-png and tuxpaint-stamps-default (`apt-get install` both) and of installed
packages. Each gives itself and three crops with fixed seeds: what a library of many takes of the same things holds.
The vectors lie in .bench/real/<modality>.npy, (4 × pictures, dim) float32, rows of one picture side by side; pictures
in which a modality finds nothing have rows of zeros. They are made once, in some ten minutes on two cores.
"""

import multiprocessing
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from benchmarks.harness import BENCH, wants_quick
from benchmarks.pictures import real_pictures
from imgrec.embedders.base import Embedder, LearnedEmbedder
from imgrec.embedders.catalogue import create_embedders
from imgrec.embedders.machine import Machine

PACKAGES = ("/usr/share/openclipart", "/usr/share/tuxpaint/stamps")
MODALITIES = ("color", "sift", "efficientnet")
SETTINGS = {"bins": [8, 8, 8], "decode_min_side": 448, "sift_codebook": "default"}
VIEWS = 4
QUICK = 1_000
_LARGEST_SIDE = 640
_AT_ONCE = 16

Vectors = NDArray[np.float32]


class PicturesNotInstalledError(LookupError):
    """The Debian packages that bring the pictures are not installed."""


def real_vectors(modality: str, quick: bool = False) -> Vectors:
    """The vectors of one modality, (4 × pictures, dim) float32, mapped; `quick`: of the first thousand pictures."""
    path = BENCH / ("real-quick" if quick else "real") / f"{modality}.npy"
    if not path.is_file():
        _make(path.parent, quick)
    found: Vectors = np.load(path, mmap_mode="r")
    return found


def picture_files() -> list[Path]:
    """All pictures, in a fixed order that mixes the packages.

    Raises:
        PicturesNotInstalledError: names what to install.
    """
    found = [path for folder in PACKAGES for path in Path(folder).rglob("*.png")]
    if len(found) < QUICK:
        raise PicturesNotInstalledError("apt-get install openclipart-png tuxpaint-stamps-default")
    found = sorted({path.resolve() for path in found}) + real_pictures()
    return [found[place] for place in np.random.default_rng(0).permutation(len(found))]


def _make(folder: Path, quick: bool) -> None:
    files = picture_files()[: QUICK if quick else None]
    batches = [files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE)]
    rows: dict[str, list[Vectors]] = {modality: [] for modality in MODALITIES}
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_start) as pool:
        for found in pool.map(_embed, batches):
            for modality, vectors in found.items():
                rows[modality].append(vectors)
    folder.mkdir(parents=True, exist_ok=True)
    for modality, parts in rows.items():
        np.save(folder / f"{modality}.npy", np.concatenate(parts))


_EMBEDDERS: dict[str, Embedder] = {}


def _start() -> None:
    cv2.setNumThreads(1)
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    _EMBEDDERS.update(create_embedders(MODALITIES, SETTINGS))
    for embedder in _EMBEDDERS.values():
        if isinstance(embedder, LearnedEmbedder):
            embedder.load(Machine(device="cpu"))


def _embed(files: list[Path]) -> dict[str, Vectors]:
    views = [view for file in files for view in _views(file)]
    return {
        modality: np.nan_to_num(np.concatenate([embedder.embed([view]) for view in views]))
        for modality, embedder in _EMBEDDERS.items()
    }


def _views(file: Path) -> Iterator[NDArray[np.uint8]]:
    """A picture, no larger than what SIFT looks at, and three crops of a third to four fifths of its sides."""
    with Image.open(file) as opened:
        picture = opened.convert("RGBA")
    picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    white = Image.new("RGBA", picture.size, "white")
    pixels = np.asarray(Image.alpha_composite(white, picture).convert("RGB"))
    yield pixels
    random = np.random.default_rng(zlib.crc32(file.name.encode()))
    for _ in range(VIEWS - 1):
        height, width = (min(side, max(8, int(side * random.uniform(0.33, 0.8)))) for side in pixels.shape[:2])
        top, left = (
            int(random.integers(side + 1 - cut)) for side, cut in zip(pixels.shape, (height, width), strict=False)
        )
        yield np.ascontiguousarray(pixels[top : top + height, left : left + width])


if __name__ == "__main__":
    is_quick = wants_quick(__doc__)
    for name in MODALITIES:
        print(name, *real_vectors(name, is_quick).shape)
