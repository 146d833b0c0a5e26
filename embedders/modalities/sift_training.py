"""Learn what SIFT-VLAD needs from descriptors: a local PCA and a codebook."""

from collections.abc import Mapping, Sequence
from typing import Any

import faiss
import numpy as np

from imgrec.embedders.arithmetic import one_thread
from imgrec.embedders.errors import TooFewImagesError
from imgrec.embedders.modalities.sift import Floats, describe
from imgrec.embedders.modalities.sift_codebook import SiftCodebook
from imgrec.storage.errors import ImageError
from imgrec.storage.machine.pool import time_limit
from imgrec.storage.photos.decoding import decode
from imgrec.storage.photos.pending import Pending
from imgrec.storage.photos.probe import read_regular
from imgrec.storage.photos.profiles import profiles_of
from imgrec.storage.photos.roots import Roots

WORDS = 64
LOCAL_DIM = 64
MAX_DESCRIPTORS = 256_000
DESCRIPTORS_PER_PHOTO = 200
ITERATIONS = 20
_SEED = 0


def describe_photos(
    roots: Roots,
    vector_settings: Mapping[str, Any],
    max_megapixels: float,
    decode_timeout_s: float,
    photos: Sequence[Pending],
) -> list[Floats]:
    """Describe photos for training, at most 200 descriptors each, evenly taken. Runs in worker processes.

    What cannot be read or has no keypoints is left out.
    """
    described = []
    for photo in photos:
        try:
            data, _ = read_regular(roots.locate(photo.path))
            with time_limit(decode_timeout_s):
                pixels = decode(data, vector_settings["decode_min_side"], max_megapixels, profiles_of(vector_settings))
            descriptors, _ = describe(pixels)
        except (OSError, ImageError):
            continue
        if len(descriptors):
            described.append(descriptors[:: -(-len(descriptors) // DESCRIPTORS_PER_PHOTO)])
    return described


def train_codebook(descriptors: Sequence[Floats]) -> SiftCodebook:
    """Fit PCA and k-means to the RootSIFT descriptors of some pictures, each (N, 128).

    The codebook is the same for the same descriptors, whatever the number of threads: everything that adds floats runs
    on one.

    Raises:
        TooFewImagesError: there are fewer than 39 descriptors a visual word, below which FAISS warns of its k-means.
    """
    sample = np.concatenate([*descriptors, np.empty((0, 128), np.float32)])
    if len(sample) < WORDS * 39:
        raise TooFewImagesError(f"{len(sample):,} keypoints are too few to learn {WORDS} visual words from")
    order = np.random.default_rng(_SEED).permutation(len(sample))[:MAX_DESCRIPTORS]
    sample = sample[np.sort(order)]
    with one_thread():
        return _fit(sample)


def _fit(sample: Floats) -> SiftCodebook:
    mean = sample.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(np.cov((sample - mean).T))
    kept = np.ascontiguousarray(axes[:, ::-1][:, :LOCAL_DIM], np.float32)
    local = np.ascontiguousarray((sample - mean.astype(np.float32)) @ kept)
    clusters = faiss.Kmeans(
        LOCAL_DIM, WORDS, niter=ITERATIONS, seed=_SEED, max_points_per_centroid=len(local) // WORDS + 1
    )
    clusters.train(local)
    return SiftCodebook(mean.astype(np.float32), kept, np.asarray(clusters.centroids, np.float32))
