"""Colour profiles inside of pictures: what they mean is what is decoded, where a library wants that."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from imgrec.storage.photos import profiles
from imgrec.storage.photos.decoding import decode
from imgrec.storage.photos.decoding_alone import decode_safely
from tests.flows.nasty import encode
from tests.storage import icc
from tests.storage.photos.makers import SRGB, scene, twin_of

PROFILES = {"P3": icc.DISPLAY_P3, "Adobe RGB": icc.ADOBE_RGB, "ProPhoto": icc.PROPHOTO}
P3 = icc.rgb_profile(*icc.DISPLAY_P3)


def pixels_of(data: bytes, icc_profiles: str = "srgb") -> NDArray[np.int64]:
    return decode(data, 64, 10, icc_profiles).astype(np.int64)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_twin_has_the_colours_of_its_sibling(format: str, name: str) -> None:
    options: dict[str, object] = {"lossless": True} if format == "WEBP" else {"quality": 95}
    if format == "JPEG":
        options["subsampling"] = 0
    profile = icc.rgb_profile(*PROFILES[name])
    data = encode(twin_of(scene(), profile), format, icc_profile=profile, **options)
    difference = np.abs(pixels_of(data) - np.asarray(scene()))
    assert difference.mean() < (0.5 if format in ("PNG", "WEBP", "TIFF") else 2.5)
    assert np.abs(pixels_of(data, "ignored") - np.asarray(scene())).mean() > 2 * difference.mean() + 1


@pytest.mark.parametrize("mode", ["RGBA", "P", "P with alpha"])
def test_other_modes_are_converted_too(mode: str) -> None:
    random = np.random.default_rng(1).integers(60, 196, (8, 8, 3), np.uint8)
    right = Image.fromarray(random)
    made, options = twin_of(right, P3), {"icc_profile": P3}
    if mode == "RGBA":
        made.putalpha(128)
    else:
        made = made.quantize(64)
        assert np.array_equal(np.asarray(made.convert("RGB")), np.asarray(twin_of(right, P3)))
        if mode == "P with alpha":
            options["transparency"] = bytes([128]) * 64
    expected = np.asarray(right) if mode == "P" else np.asarray(right) * (128 / 255) + 127
    assert np.abs(pixels_of(encode(made, "PNG", **options)) - expected).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_greys_are_converted_too(mode: str) -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None].repeat(4, axis=0))
    made = ramp.convert(mode)
    pixels = pixels_of(encode(made, "PNG", icc_profile=icc.grey_profile(1.8)))
    light = (np.arange(256) / 255) ** 1.8
    right = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert np.abs(pixels - right[None, :, None]).max() <= 2


def test_inks_are_converted_by_their_profile() -> None:
    inks = np.array([[0.1, 0.2, 0.8], [0.7, 0.1, 0.1], [0.8, 0.7, 0.1], [0.05, 0.05, 0.05]])
    data = encode(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", icc_profile=icc.ink_profile(inks), quality=95)
    expected = (1.055 * inks[0] ** (1 / 2.4) - 0.055) * 255
    assert np.abs(pixels_of(data) - expected).max() <= 6
    assert pixels_of(data, "ignored")[0, 0].tolist() == pytest.approx([0, 255, 255], abs=3)


@pytest.mark.parametrize("profile", [None, SRGB, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()])
def test_srgb_is_no_work(profile: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(scene(), "PNG", icc_profile=profile)
    pixels_of(data)

    def work(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ImageCms.ImageCmsTransform, "apply", work)
    assert np.array_equal(pixels_of(data), np.asarray(scene()))


UNUSABLE = {
    "half": P3[: len(P3) // 2],
    "garbage": np.random.default_rng(0).bytes(500),
    "nothing but a header": P3[:128],
    "without red": P3.replace(b"rXYZ", b"none"),
    "of inks": icc.ink_profile(np.full((4, 3), 0.5)),
    "of greys": icc.grey_profile(1.0),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_profile_that_is_unusable_is_ignored(what: str) -> None:
    for format in ("PNG", "JPEG"):
        data = encode(scene(), format, icc_profile=UNUSABLE[what])
        assert np.array_equal(pixels_of(data), pixels_of(data, "ignored"))


def test_jpegs_are_scaled_as_ever() -> None:
    large = scene(1_200, 800)
    with_profile = decode(encode(large, "JPEG", icc_profile=P3), 180, 10, "srgb")
    assert with_profile.shape == decode(encode(large, "JPEG"), 180, 10).shape == (200, 300, 3)


def test_a_large_picture_is_converted_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(scene(), "PNG", icc_profile=P3)
    whole = pixels_of(data)
    monkeypatch.setattr("imgrec.storage.photos.deep._STRIP_PIXELS", 96 * 7)
    assert np.array_equal(pixels_of(data), whole)


def test_a_profile_is_opened_once_a_process() -> None:
    profiles._transform.cache_clear()
    for seed in range(5):
        pixels_of(encode(scene(96 + seed), "JPEG", icc_profile=P3))
    assert (profiles._transform.cache_info().misses, profiles._transform.cache_info().hits) == (1, 4)


def test_a_picture_decoded_by_a_process_of_its_own_is_converted_too() -> None:
    data = encode(scene(), "TIFF", icc_profile=P3)
    for icc_profiles in ("srgb", "ignored"):
        assert np.array_equal(decode_safely(data, 64, 10, 60, icc_profiles), decode(data, 64, 10, icc_profiles))
    assert (pixels_of(data) != pixels_of(data, "ignored")).any()
