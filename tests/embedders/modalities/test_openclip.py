"""openclip: its contract, and its vectors against those of open_clip called the way its README does."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgrec.embedders.base import Embedder, Pixels, Vectors
from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.errors import EmbedderParameterError, ModelFileError
from imgrec.embedders.machine import Machine
from imgrec.embedders.modalities.openclip import OpenClipEmbedder
from imgrec.embedders.models.openclip_adding import add_openclip
from imgrec.embedders.models.store import FACTS_FILE, StoredModel, find_model
from imgrec.embedders.work.worker import IMAGES_PER_PART, embed_chunk
from imgrec.storage.machine.pool import WorkerPool
from imgrec.storage.photos.decoding import decode
from imgrec.storage.shards import list_shards, read_shard
from tests.embedders.contract import make_pictures
from tests.embedders.learned import LearnedContract, median_cosine, photos
from tests.embedders.openclip_files import MEAN, PREPROCESSING, STD, TINY, write_folder
from tests.embedders.work.test_worker import write_chunk, write_photos

NAME = "tiny.test"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model as somebody publishes it."""
    return write_folder(tmp_path_factory.mktemp("original") / "tiny")


@pytest.fixture(scope="module")
def stored(original: Path, tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    """The same in the store."""
    return add_openclip(tmp_path_factory.mktemp("models"), NAME, original)


def loaded(stored: StoredModel, min_side: int = 448, **changed: Any) -> OpenClipEmbedder:
    """An embedder of a stored model; `changed` facts make it one that computes something else."""
    embedder = OpenClipEmbedder({**stored.card, **changed}, min_side)
    embedder.load(machine_of(stored))
    return embedder


def machine_of(stored: StoredModel) -> Machine:
    return Machine(stored.folder.parent, "cpu")


class TestOpenClipContract(LearnedContract):
    modality = "openclip"

    @pytest.fixture(autouse=True)
    def settings(self, stored: StoredModel) -> None:
        self.machine = machine_of(stored)
        changes: list[dict[str, Any]] = [
            {"digest": "0" * 16}, {"quick_gelu": False}, {"mean": STD}, {"std": MEAN}, {"interpolation": "bilinear"},
            {"resize_mode": "squash"}, {"size": [200, 200]}, {"dim": 47},
        ]  # fmt: skip
        self.vector_settings = {"decode_min_side": 448, "openclip_model": stored.card}  # type: ignore[misc]
        self.changes = [  # type: ignore[misc] # a class has them, where no model has to be made first
            {"decode_min_side": 449},
            {"precision": "bf16"},
            *({"openclip_model": {**stored.card, **change}} for change in changes),
        ]

    def create(self, vector_settings: Mapping[str, Any]) -> Embedder:
        embedder = create_embedder(self.modality, vector_settings)
        assert isinstance(embedder, OpenClipEmbedder)
        embedder.load(self.machine)
        return embedder


def reference(folder: Path, pictures: Sequence[Pixels]) -> Vectors:
    """What open_clip makes of pictures, as its README calls it."""
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()
    with torch.no_grad():
        features = [model.encode_image(preprocess(Image.fromarray(picture)).unsqueeze(0)) for picture in pictures]
        rows = torch.cat(features)
        rows /= rows.norm(dim=-1, keepdim=True)
    return np.asarray(rows.numpy(), np.float32)


@pytest.fixture(scope="module")
def golden(original: Path) -> Vectors:
    return reference(original, photos())


def check_golden(embedder: OpenClipEmbedder, golden: Vectors) -> None:
    difference = np.abs(embedder.embed(photos()[: len(golden)]) - golden).max()
    assert difference <= 1e-5, difference


def test_vectors_are_those_of_open_clip(stored: StoredModel, golden: Vectors) -> None:
    assert median_cosine(golden) < 0.5  # or else wrong code could pass
    check_golden(loaded(stored), golden)


class Wrong(OpenClipEmbedder):
    """Its pictures reach the model otherwise."""

    change: Callable[[Pixels], Pixels]

    def prepare(self, pixels: Pixels) -> Pixels:
        return np.ascontiguousarray(type(self).change(super().prepare(pixels)))


class Swapped(Wrong):
    change = staticmethod(lambda pixels: pixels[..., ::-1])


class Transposed(Wrong):
    change = staticmethod(lambda pixels: pixels.transpose(1, 0, 2))


class Shifted(Wrong):
    change = staticmethod(lambda pixels: np.roll(pixels, 1, axis=1))


FACTS: dict[str, dict[str, Any]] = {
    "mean as std": {"mean": STD},
    "std as mean": {"std": MEAN},
    "ImageNet's": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "to -1 and 1": {"mean": (0.5,) * 3, "std": (0.5,) * 3},
    "bilinear": {"interpolation": "bilinear"},
    "squashed": {"resize_mode": "squash"},
    "padded": {"resize_mode": "longest"},
}


@pytest.mark.parametrize("mutant", FACTS)
def test_other_facts_fail_the_golden_test(stored: StoredModel, golden: Vectors, mutant: str) -> None:
    with pytest.raises(AssertionError):
        check_golden(loaded(stored, **FACTS[mutant]), golden[:6])


@pytest.mark.parametrize("mutant", [Swapped, Transposed, Shifted])
def test_other_pixels_fail_the_golden_test(stored: StoredModel, golden: Vectors, mutant: type[Wrong]) -> None:
    embedder = mutant(stored.card, 448)
    embedder.load(machine_of(stored))
    with pytest.raises(AssertionError):
        check_golden(embedder, golden[:6])


def test_another_activation_fails_the_golden_test(tmp_path: Path, golden: Vectors) -> None:
    gelu = add_openclip(tmp_path, "gelu", write_folder(tmp_path / "gelu-original", {**TINY, "quick_gelu": False}))
    with pytest.raises(AssertionError):
        check_golden(loaded(gelu), golden[:6])


@pytest.mark.parametrize(
    "preprocessing",
    [
        {"resize_mode": "squash", "interpolation": "bilinear"},
        {"resize_mode": "longest", "fill_color": 128},
        {"interpolation": "bilinear"},
        {"mean": (0.5,) * 3, "std": (0.5,) * 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [224, (192, 256)])
def test_other_preprocessing_is_open_clips_too(tmp_path: Path, preprocessing: dict[str, Any], size: Any) -> None:
    model = {**TINY, "vision_cfg": {**TINY["vision_cfg"], "image_size": size}}
    folder = write_folder(tmp_path / "original", model, {**PREPROCESSING, **preprocessing})
    check_golden(loaded(add_openclip(tmp_path / "models", NAME, folder)), reference(folder, photos()[:6]))


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_a_picture_of_any_shape_is_made_ready(stored: StoredModel, mode: str) -> None:
    embedder = OpenClipEmbedder({**stored.card, "resize_mode": mode}, 448)
    assert {embedder.prepare(picture).shape for picture in make_pictures()} == {(224, 224, 3)}


def test_shrinking_at_decoding_changes_next_to_nothing(stored: StoredModel, original: Path) -> None:
    large = []
    for picture in photos()[:6]:
        buffer = io.BytesIO()
        shape = (max(1_200, 2 * picture.shape[1]), max(900, 2 * picture.shape[0]))
        Image.fromarray(picture).resize(shape, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
        large.append(buffer.getvalue())
    shrunk = [decode(data, 448, 256) for data in large]
    full = [decode(data, 100_000, 256) for data in large]
    assert all(one.shape[0] < other.shape[0] for one, other in zip(shrunk, full, strict=True))
    cosines = (loaded(stored).embed(shrunk) * reference(original, full)).sum(axis=1)
    assert cosines.min() >= 0.999, cosines


def test_texts_are_those_of_open_clip(stored: StoredModel, original: Path) -> None:
    import open_clip
    import torch

    texts = ["a red car", "a photo of a cat", "ein Häuschen " * 40]  # the last one is longer than the context
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{original}")
    model.eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{original}")(texts)
    assert tokens.shape == (3, TINY["text_cfg"]["context_length"])
    with torch.no_grad():
        features = model.encode_text(tokens)
        features /= features.norm(dim=-1, keepdim=True)
    vectors = OpenClipEmbedder(stored.card, 448).embed_texts(texts, machine_of(stored))
    assert vectors.dtype == np.float32
    assert np.abs(vectors - features.numpy()).max() <= 1e-5
    assert median_cosine(vectors) < 0.9


def test_a_model_whose_tokenizer_is_elsewhere_says_so(tmp_path: Path) -> None:
    model = {**TINY, "text_cfg": {**TINY["text_cfg"], "hf_tokenizer_name": "timm/ViT-B-16-SigLIP"}}
    stored = add_openclip(tmp_path / "models", NAME, write_folder(tmp_path / "original", model))
    with pytest.raises(EmbedderParameterError, match=r"^tiny\.test reads text by a tokenizer of another library"):
        OpenClipEmbedder(stored.card, 448).embed_texts(["a"], machine_of(stored))
    assert loaded(stored).embed(photos()[:1]).shape == (1, 48)


def test_weights_that_are_missing_damaged_or_others_are_told(tmp_path: Path) -> None:
    stored = add_openclip(tmp_path / "models", NAME, write_folder(tmp_path / "original"))
    embedder = OpenClipEmbedder(stored.card, 448)
    weights = stored.folder / "open_clip_model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelFileError, match=r"safetensors is not the file that was stored: run `imgrec models add"):
        embedder.load(machine_of(stored))
    add_openclip(tmp_path / "models", NAME, write_folder(tmp_path / "other", seed=1))
    with pytest.raises(ModelFileError, match=r"is another tiny\.test"):
        embedder.load(machine_of(stored))
    (stored.folder / FACTS_FILE).unlink()
    with pytest.raises(ModelFileError, match=r"model tiny\.test is not in"):
        embedder.load(machine_of(stored))


def test_a_library_without_a_model_says_how_to_get_one() -> None:
    with pytest.raises(EmbedderParameterError, match="`imgrec ingest --modality openclip`"):
        create_embedder("openclip", {"decode_min_side": 448})


def test_a_model_that_sees_more_pixels_than_are_decoded_is_refused(stored: StoredModel) -> None:
    card = {**stored.card, "size": [512, 384]}
    with pytest.raises(EmbedderParameterError, match=r"tiny\.test sees 512 pixels .*: --decode-min-side 512 "):
        create_embedder("openclip", {"decode_min_side": 448, "openclip_model": card})
    create_embedder("openclip", {"decode_min_side": 512, "openclip_model": card})


def test_a_real_model_and_real_workers_make_what_it_makes_alone(tmp_path: Path, stored: StoredModel) -> None:
    embedder = loaded(stored, 224)
    pending = write_photos(tmp_path / "photos", IMAGES_PER_PART + 3)
    settings = {"bins": [4, 4, 4], "decode_min_side": 224, "sift_codebook": "default", "openclip_model": stored.card}
    both = {name: create_embedder(name, settings).spec.fingerprint for name in ("color", "openclip")}
    path = write_chunk(tmp_path, pending, fingerprints=both, vector_settings=settings)
    with WorkerPool(2, preload=["imgrec.embedders.work.worker"]) as pool:
        assert embed_chunk(path, pool, 2, Machine(stored.folder.parent, "cpu")).embedded == IMAGES_PER_PART + 3
    (shard,) = [read_shard(found) for found in list_shards(tmp_path / "shards", embedder.spec.fingerprint)]
    pictures = [decode(photo.read_bytes(), 224, 1) for photo in sorted((tmp_path / "photos").iterdir())]
    assert np.abs(shard.vectors - embedder.embed(pictures)).max() <= 1e-5


@pytest.mark.slow
def test_the_size_of_a_real_model(tmp_path: Path) -> None:
    """ViT-B-32 by the name that open_clip publishes it under, as a checkpoint: all else is known."""
    import open_clip
    import torch

    model = open_clip.get_model_config("ViT-B-32-quickgelu")
    folder = write_folder(tmp_path / "original", model)
    weights = open_clip.factory.load_state_dict(str(folder / "open_clip_model.safetensors"))
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in weights.items()}}, tmp_path / "epoch_1.pt")
    stored = add_openclip(tmp_path / "models", "ViT-B-32-quickgelu.openai", tmp_path / "epoch_1.pt")
    assert (stored.dim, stored.facts["quick_gelu"], find_model(tmp_path / "models", stored.name)) == (512, True, stored)
    golden = reference(folder, photos()[:6])
    assert median_cosine(golden) < 0.5
    check_golden(loaded(stored), golden)
    assert json.loads((stored.folder / "open_clip_config.json").read_text())["preprocess_cfg"]["mean"] == list(MEAN)
