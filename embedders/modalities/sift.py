"""`sift`: which local patterns a picture has, wherever they are in it."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.arithmetic import one_thread
from imgrec.embedders.base import Embedder, EmbedderSpec, Pixels, Vectors
from imgrec.embedders.modalities.sift_codebook import DEFAULT, SiftCodebook, load_codebook

LONGEST_SIDE = 480
MAX_KEYPOINTS = 1_000
CONTRAST = 0.01
DIM = 2_048
_EPSILON = 1e-12

Floats = NDArray[np.float32]


class SiftEmbedder(Embedder):
    """VLAD of RootSIFT descriptors, shortened by a fast Johnson–Lindenstrauss transform.

    SIFT (Lowe 2004, https://doi.org/10.1023/B:VISI.0000029664.99615.94) at the strongest keypoints of the picture at
    480 pixels; RootSIFT (Arandjelović and Zisserman 2012, https://doi.org/10.1109/CVPR.2012.6248018); local PCA and
    VLAD (Jégou et al. 2012, https://doi.org/10.1109/TPAMI.2011.235), in which a keypoint counts by the square root of
    its size, since small ones do not survive shrinking or blurring; intra-normalisation (Arandjelović and Zisserman
    2013, https://doi.org/10.1109/CVPR.2013.207); signed square root (Perronnin et al. 2010,
    https://doi.org/10.1007/978-3-642-15561-1_11); random signs, Walsh–Hadamard transform, its first `DIM` rows
    (Ailon and Chazelle 2009, https://doi.org/10.1137/060673096), which keeps cosines and has nothing to learn.
    docs/decisions/sift-parameters.md has the measurements behind each number.
    """

    def __init__(self, model: SiftCodebook, decode_min_side: int) -> None:
        self._model = model
        self.spec = EmbedderSpec(
            name="sift",
            version=2,
            dim=DIM,
            decode_min_side=decode_min_side,
            parameters={
                "longest_side": LONGEST_SIDE,
                "max_keypoints": MAX_KEYPOINTS,
                "contrast": CONTRAST,
                "model": model.digest,
            },
        )

    @classmethod
    def from_settings(cls, vector_settings: Mapping[str, Any], models_dir: Path | None) -> "SiftEmbedder":
        name = vector_settings.get("sift_codebook", DEFAULT)  # libraries made before there was sift have none
        return cls(load_codebook(name, models_dir), vector_settings["decode_min_side"])

    def embed(self, batch: Sequence[Pixels]) -> Vectors:
        vectors = np.full((len(batch), DIM), np.nan, np.float32)
        for row, pixels in enumerate(batch):
            descriptors, sizes = describe(pixels)
            if len(descriptors):
                with one_thread():  # in as many processes as cores, more would only wait for one another, too
                    vectors[row] = shorten(vlad(descriptors, np.sqrt(sizes), self._model), DIM)
        return vectors


def describe(pixels: Pixels) -> tuple[Floats, Floats]:
    """Return the RootSIFT descriptors of an RGB picture, (N, 128) of L2 norm 1, and how large each keypoint is.

    Sizes, (N,), are diameters in pixels of the picture at `LONGEST_SIDE`. N may be 0.
    """
    height, width = pixels.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT.create(nfeatures=MAX_KEYPOINTS, contrastThreshold=CONTRAST)
    keypoints, found = sift.detectAndCompute(grey, None)
    if found is None:
        return np.empty((0, 128), np.float32), np.empty(0, np.float32)
    descriptors = np.asarray(found, np.float32)
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), _EPSILON))
    return np.asarray(rooted, np.float32), np.array([keypoint.size for keypoint in keypoints], np.float32)


def vlad(descriptors: Floats, weights: Floats, model: SiftCodebook) -> Floats:
    """Sum the weighted residuals of each visual word; intra-normalise; take signed roots.

    Returns (words · local_dim,) of norm 1.
    """
    local = (descriptors - model.mean) @ model.axes
    # argmin |x - c|² = argmin |c|² - 2 x·c
    words = np.argmin((model.centroids**2).sum(axis=1) - 2 * local @ model.centroids.T, axis=1)
    residuals = np.zeros_like(model.centroids)
    np.add.at(residuals, words, (local - model.centroids[words]) * weights[:, None])
    residuals /= np.maximum(np.linalg.norm(residuals, axis=1, keepdims=True), _EPSILON)
    return _unit((np.sign(residuals) * np.sqrt(np.abs(residuals))).reshape(-1))


def shorten(vector: Floats, dim: int) -> Floats:
    """Project (n,), n a power of two, to (dim,) of norm 1: random signs, Walsh–Hadamard transform, its first rows."""
    values = vector * _signs(len(vector))
    step = 1
    while step < len(values):
        pairs = values.reshape(-1, 2, step)
        values = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), axis=1).reshape(-1)
        step *= 2
    return _unit(values[:dim])


@cache
def _signs(count: int) -> Floats:
    """The same signs on every machine and for ever: the bits of SHA-256 of a counter."""
    blocks = (hashlib.sha256(f"imgrec {block}".encode()).digest() for block in range(-(-count // 256)))
    bits = np.unpackbits(np.frombuffer(b"".join(blocks), np.uint8))[:count]
    return 1 - 2 * bits.astype(np.float32)


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / np.maximum(np.linalg.norm(vector), _EPSILON), np.float32)
