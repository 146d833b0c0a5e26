"""SIFT-VLAD: its contract, its parts against their definitions, and what it is for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import faiss
import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks.pictures import real_pictures
from imgrec.embedders.base import Pixels
from imgrec.embedders.errors import ModelFileError, TooFewImagesError
from imgrec.embedders.modalities.sift import DIM, SiftEmbedder, describe, shorten, vlad
from imgrec.embedders.modalities.sift_codebook import DEFAULT, SiftCodebook, codebook_path, load_codebook
from imgrec.embedders.modalities.sift_training import train_codebook
from tests.embedders.contract import EmbedderContract


class TestSiftContract(EmbedderContract):
    modality = "sift"
    vector_settings: ClassVar[Mapping[str, Any]] = {"sift_codebook": "default", "decode_min_side": 448}
    changes: ClassVar[Sequence[Mapping[str, Any]]] = [{"decode_min_side": 449}]
    silent: ClassVar[Sequence[int]] = (2, 3, 4, 5, 6, 7)  # ramp, white, black, one pixel, three and one pixels wide


@pytest.fixture(scope="module")
def embedder() -> SiftEmbedder:
    return SiftEmbedder(load_codebook(DEFAULT, None), 448)


def load(name: str) -> Image.Image:
    (path,) = (path for path in real_pictures() if path.name == name)
    return Image.open(path).convert("RGB")


def pixels(image: Image.Image) -> Pixels:
    return np.asarray(image)


@pytest.mark.parametrize("name", ["coffee.png", "chelsea.png", "rocket.jpg", "china.jpg"])
def test_copies_score_higher_than_anything_else(embedder: SiftEmbedder, name: str) -> None:
    picture = load(name)
    width, height = picture.size
    copies = [
        ImageOps.grayscale(picture).convert("RGB"),
        picture.rotate(15, expand=True),
        picture.resize((width // 2, height // 2)),
        picture.crop((width // 8, height // 8, width, height)),
    ]
    others = [path for path in real_pictures() if path.name != name]
    vector = embedder.embed([pixels(picture)])[0]
    best_other = np.nanmax(embedder.embed([pixels(Image.open(path).convert("RGB")) for path in others]) @ vector)
    assert (embedder.embed([pixels(copy) for copy in copies]) @ vector).min() > best_other + 0.05


def test_vlad_is_what_its_papers_say() -> None:
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.standard_normal((128, 4)))[0].astype(np.float32)
    model = SiftCodebook(random.random(128, np.float32), axes, random.standard_normal((8, 4)).astype(np.float32))
    descriptors, weights = random.random((50, 128), np.float32), random.random(50, np.float32)
    expected = np.zeros((8, 4))
    for descriptor, weight in zip(descriptors.astype(np.float64), weights, strict=True):
        local = (descriptor - model.mean) @ model.axes
        word = min(range(8), key=lambda word: float(np.linalg.norm(local - model.centroids[word])))
        expected[word] += weight * (local - model.centroids[word])
    for word in range(8):
        norm = np.linalg.norm(expected[word])
        expected[word] = expected[word] / norm if norm else 0
    flat = np.sign(expected).reshape(-1) * np.sqrt(np.abs(expected)).reshape(-1)
    assert np.allclose(vlad(descriptors, weights, model), flat / np.linalg.norm(flat), atol=1e-5)


def test_descriptors_are_root_sift() -> None:
    picture = pixels(load("cell.png"))
    small = np.asarray(Image.fromarray(picture).resize((300, 300)))
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    keypoints, plain = cv2.SIFT.create(nfeatures=1_000, contrastThreshold=0.01).detectAndCompute(grey, None)
    plain = np.asarray(plain)
    descriptors, sizes = describe(small)
    assert np.allclose(descriptors, np.sqrt(plain / plain.sum(axis=1, keepdims=True)), atol=1e-6)
    assert np.array_equal(sizes, np.array([keypoint.size for keypoint in keypoints], np.float32))


def test_large_keypoints_count_more_as_the_root_of_their_size(embedder: SiftEmbedder) -> None:
    picture = pixels(load("coins.png"))
    descriptors, sizes = describe(picture)
    assert sizes.max() > 4 * sizes.min()
    expected = shorten(vlad(descriptors, np.sqrt(sizes), load_codebook(DEFAULT, None)), DIM)
    assert np.allclose(embedder.embed([picture])[0], expected, rtol=0, atol=1e-6)


def test_shortening_keeps_cosines() -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((40, 4_096)).astype(np.float32)
    vectors += 2 * vectors[:1]  # so that cosines differ
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = np.stack([shorten(vector, 4_096) for vector in vectors])
    assert np.allclose(whole @ whole.T, vectors @ vectors.T, atol=1e-5)  # all rows: a rotation
    half = np.stack([shorten(vector, DIM) for vector in vectors])
    assert np.abs(half @ half.T - vectors @ vectors.T).max() < 0.06


def test_a_trained_model_is_the_same_for_any_number_of_threads_and_survives_its_file(tmp_path: Path) -> None:
    descriptors = [describe(pixels(Image.open(path).convert("RGB")))[0] for path in real_pictures()[:12]]
    models = []
    for threads in (1, 4):
        faiss.omp_set_num_threads(threads)
        models.append(train_codebook(descriptors))
    assert models[0].digest == models[1].digest
    path = codebook_path(tmp_path, models[0].digest)
    models[0].save(path)
    assert load_codebook(models[0].digest, tmp_path).digest == models[0].digest
    embedder = SiftEmbedder(models[0], 448)
    assert embedder.spec.fingerprint != SiftEmbedder(load_codebook(DEFAULT, None), 448).spec.fingerprint


def test_too_little_to_learn_from_is_told() -> None:
    with pytest.raises(TooFewImagesError, match="too few"):
        train_codebook([np.zeros((100, 128), np.float32)])


def test_a_missing_or_damaged_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is missing"):
        load_codebook("0123456789abcdef", tmp_path)
    codebook_path(tmp_path, "1123456789abcdef").write_bytes(b"PK nothing")
    with pytest.raises(ModelFileError, match="is damaged"):
        load_codebook("1123456789abcdef", tmp_path)
    load_codebook(DEFAULT, None).save(codebook_path(tmp_path, "2123456789abcdef"))
    with pytest.raises(ModelFileError, match="it holds codebook"):
        load_codebook("2123456789abcdef", tmp_path)
