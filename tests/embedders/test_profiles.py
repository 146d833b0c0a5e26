"""The same photo in another colour space has the vector that it has in sRGB."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from benchmarks.pictures import real_pictures
from imgrec.embedders.base import LearnedEmbedder
from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.machine import Machine
from imgrec.storage.photos.decoding import decode
from tests.flows.nasty import encode
from tests.storage import icc

SETTINGS = {"bins": [8, 8, 8], "decode_min_side": 448, "icc_profiles": "srgb"}
IN_COLOUR = (
    "astronaut", "chelsea", "coffee", "hubble_deep_field", "ihc", "retina", "rocket", "china", "flower", "grace_hopper",
)  # fmt: skip


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """Twenty, no larger than they are decoded: the left and the right of ten."""
    halves = []
    for path in real_pictures():
        if path.stem in IN_COLOUR:
            photo = Image.open(path).convert("RGB")
            photo.thumbnail((640, 640))
            middle = photo.width // 2
            halves += [photo.crop((0, 0, middle, photo.height)), photo.crop((middle, 0, photo.width, photo.height))]
    assert len(halves) == 20
    return halves


@pytest.fixture(
    scope="module", params=[icc.DISPLAY_P3, icc.ADOBE_RGB, icc.PROPHOTO], ids=["P3", "Adobe RGB", "ProPhoto"]
)
def twins(request: pytest.FixtureRequest, photos: list[Image.Image]) -> list[bytes]:
    """The photos in another space, whose profile is inside."""
    profile = icc.rgb_profile(*request.param)
    source, target = (ImageCms.ImageCmsProfile(io.BytesIO(each)) for each in (icc.rgb_profile(*icc.SRGB), profile))
    there = ImageCms.buildTransform(source, target, "RGB", "RGB", flags=ImageCms.Flags.NOOPTIMIZE)
    return [encode(there.apply(photo), "PNG", icc_profile=profile, compress_level=1) for photo in photos]


@pytest.mark.parametrize("modality", ["color", "efficientnet"])
def test_twins_of_twenty_photos(photos: list[Image.Image], twins: list[bytes], modality: str) -> None:
    embedder = create_embedder(modality, SETTINGS)
    if isinstance(embedder, LearnedEmbedder):
        embedder.load(Machine())
    vectors = embedder.embed([np.asarray(photo) for photo in photos])
    converted = embedder.embed([decode(twin, 448, 256, "srgb") for twin in twins])
    ignored = embedder.embed([decode(twin, 448, 256) for twin in twins])
    assert (vectors * converted).sum(axis=1).min() >= 0.99
    assert (vectors * ignored).sum(axis=1).min() < 0.99
