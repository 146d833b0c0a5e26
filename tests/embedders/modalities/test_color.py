"""`color` is the square root of an HSV histogram."""

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.pictures import COPIES, real_pictures
from imgrec.embedders.base import Pixels, Vectors
from imgrec.embedders.errors import EmbedderParameterError
from imgrec.embedders.modalities.color import LONGEST_SIDE, MAX_BINS, ColorEmbedder
from imgrec.storage.photos.decoding import decode
from tests.embedders.contract import EmbedderContract


class TestColorContract(EmbedderContract):
    modality = "color"
    vector_settings: ClassVar[Mapping[str, Any]] = {"bins": [8, 8, 8], "decode_min_side": 448}
    changes: ClassVar[Sequence[Mapping[str, Any]]] = [
        {"bins": [9, 8, 8]},
        {"bins": [8, 9, 8]},
        {"bins": [8, 8, 9]},
        {"decode_min_side": 449},
    ]


def embed(*pictures: Pixels, bins: tuple[int, int, int] = (8, 8, 8)) -> Vectors:
    return ColorEmbedder(bins, 448).embed(pictures)


def histogram_by_hand(pixels: Pixels, bins: tuple[int, int, int]) -> Vectors:
    """The same by the definition: pixel by pixel, by Python's own HSV, rounded to 8 bits as uint8 HSV is."""
    counts = np.zeros(bins)
    for red, green, blue in pixels.reshape(-1, 3).tolist():
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        levels = (int(hue * 256 + 0.5) % 256, int(saturation * 255 + 0.5), int(value * 255 + 0.5))
        counts[tuple(level * count // 256 for level, count in zip(levels, bins, strict=True))] += 1
    return np.asarray(np.sqrt(counts / counts.sum()).reshape(-1), np.float32)


def real_picture(name: str) -> Pixels:
    (path,) = [path for path in real_pictures() if path.stem == name]
    return decode(path.read_bytes(), 448, 256)


@pytest.mark.parametrize("bins", [(8, 8, 8), (16, 4, 2), (1, 1, 64), (64, 1, 1), (5, 7, 3)])
def test_it_is_what_the_definition_says(bins: tuple[int, int, int]) -> None:
    small = cv2.resize(real_picture("chelsea"), (60, 40), interpolation=cv2.INTER_AREA)
    picture = np.asarray(small, np.uint8)
    difference = embed(picture, bins=bins)[0] ** 2 - histogram_by_hand(picture, bins) ** 2
    # A pixel on the edge between two bins may fall to either, by how a channel was rounded.
    assert np.abs(difference).sum() / 2 <= 0.005


def test_pure_colours_fall_into_the_bins_of_their_hues() -> None:
    colours = [(255, 128, 0), (128, 255, 0), (0, 255, 128), (0, 128, 255), (128, 0, 255), (255, 0, 128)]
    for place, colour in enumerate(colours):
        vector = embed(np.full((4, 4, 3), colour, np.uint8), bins=(6, 2, 2)).reshape(6, 2, 2)
        assert vector[place, 1, 1] == 1
        assert vector.sum() == 1


def test_what_has_no_colour_has_no_hue() -> None:
    for grey in (0, 100, 255):
        vector = embed(np.full((4, 4, 3), grey, np.uint8)).reshape(8, 8, 8)
        assert vector[0, 0, grey * 8 // 256] == 1


def test_half_and_half_have_a_cosine_of_the_root_of_a_half() -> None:
    red, both = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = both[:2, :, 0] = both[2:, :, 2] = 255
    one, two = embed(red, both)
    assert one @ two == pytest.approx(0.5**0.5)


def test_a_picture_and_its_grey_copy_have_little_in_common() -> None:
    colour = real_picture("coffee")
    grey = np.ascontiguousarray(np.broadcast_to(colour.mean(axis=2, keepdims=True).astype(np.uint8), colour.shape))
    one, two = embed(colour, grey)
    assert one @ two < 0.5


def test_a_distorted_copy_is_nearer_than_any_other_picture() -> None:
    names = ("astronaut", "coffee", "chelsea", "rocket", "retina", "ihc", "flower", "china")
    pictures = [Image.fromarray(real_picture(name)) for name in names]
    originals = embed(*map(np.asarray, pictures))
    for kind in ("small", "cropped", "recompressed", "mirrored", "blurred"):
        copies = embed(*(np.asarray(COPIES[kind](picture)) for picture in pictures))
        assert (copies @ originals.T).argmax(axis=1).tolist() == list(range(len(names))), kind


def test_a_mirrored_picture_has_the_same_histogram_up_to_shrinking() -> None:
    picture = real_picture("astronaut")[:LONGEST_SIDE, :LONGEST_SIDE]
    one, two = embed(picture, np.ascontiguousarray(picture[:, ::-1]))
    assert one.tobytes() == two.tobytes()


def test_large_pictures_are_shrunk_and_small_ones_are_not() -> None:
    picture = real_picture("astronaut")[:LONGEST_SIDE, : LONGEST_SIDE - 1]
    large = np.repeat(np.repeat(picture, 3, axis=0), 3, axis=1)
    one, two = embed(picture, large)
    assert one.tobytes() == two.tobytes()


def test_pictures_are_shrunk_to_the_means_of_their_areas() -> None:
    large = np.random.default_rng(0).integers(0, 256, (2 * LONGEST_SIDE, 200, 3), np.uint8)
    sums = large.astype(int).reshape(LONGEST_SIDE, 2, 100, 2, 3).sum(axis=(1, 3))
    one, two = embed(large, ((sums + 2) // 4).astype(np.uint8))
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("bins", [(0, 8, 8), (8, -1, 8), (8, 8, MAX_BINS + 1), (8, 8), (8, 8, 8, 8), ()])
def test_impossible_bins_are_refused_with_what_is_allowed(bins: tuple[int, ...]) -> None:
    with pytest.raises(EmbedderParameterError, match=rf"bins = \[.*\]: three numbers from 1 to {MAX_BINS}"):
        ColorEmbedder(bins, 448)


@pytest.mark.parametrize("bins", [[8, 8], [8, 8, 8, 8], [0, 1, 1]])
def test_impossible_bins_in_a_librarys_settings_are_refused_too(bins: list[int]) -> None:
    with pytest.raises(EmbedderParameterError, match="three numbers from 1 to"):
        ColorEmbedder.from_settings({"bins": bins, "decode_min_side": 448})


@pytest.mark.parametrize("bins", [(1, 1, 1), (MAX_BINS, 1, MAX_BINS)])
def test_the_dimension_is_the_number_of_bins(bins: tuple[int, int, int]) -> None:
    assert embed(np.zeros((2, 2, 3), np.uint8), bins=bins).shape == (1, bins[0] * bins[1] * bins[2])
