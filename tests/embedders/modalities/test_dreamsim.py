"""DreamSim: its contract, and its vectors against those of the library called as its README does it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgrec.embedders.base import Embedder, Pixels, Vectors
from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.machine import Machine
from imgrec.embedders.modalities.dreamsim import DreamSimEmbedder
from imgrec.embedders.models import dreamsim_network
from imgrec.embedders.models.dreamsim_adding import add_dreamsim
from imgrec.embedders.models.dreamsim_types import TYPES
from imgrec.embedders.models.store import find_model
from imgrec.embedders.work.worker import IMAGES_PER_PART, embed_chunk
from imgrec.storage.machine.pool import WorkerPool
from imgrec.storage.photos.decoding import decode
from imgrec.storage.shards import list_shards, read_shard
from tests.embedders.dreamsim_files import NARROW, original, reference
from tests.embedders.learned import LearnedContract, median_cosine, photos, shrunk_and_full
from tests.embedders.modalities.test_efficientnet import IMAGENET_MEAN, IMAGENET_STD, crop, prepare_with
from tests.embedders.work.test_worker import COLOR, SETTINGS, write_chunk, write_photos

if TYPE_CHECKING:
    import torch

NAME = "dreamsim.open_clip_vitb32"


@pytest.fixture(scope="module")
def cache(narrow_cache: Path, narrow_dreamsim: None) -> Path:
    return narrow_cache


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Machine:
    """A machine with a type in its store."""
    root = tmp_path_factory.mktemp("models")
    add_dreamsim(root, NAME, cache)
    return Machine(root, "cpu")


def loaded(machine: Machine) -> DreamSimEmbedder:
    embedder = DreamSimEmbedder(find_model(machine.models_root, NAME).card, 448)
    embedder.load(machine)
    return embedder


class TestDreamSimContract(LearnedContract):
    modality = "dreamsim"

    @pytest.fixture(autouse=True)
    def settings(self, machine: Machine) -> None:
        self.machine = machine
        card = find_model(machine.models_root, NAME).card
        self.vector_settings = {"decode_min_side": 448, "dreamsim_type": card}  # type: ignore[misc]
        self.changes = [  # type: ignore[misc] # a class has them, where no model has to be made first
            {"decode_min_side": 449},
            {"precision": "bf16"},
            {"dreamsim_type": {**card, "digest": "0" * 16}},
            {"dreamsim_type": {**card, "dim": 768}},
        ]

    def create(self, vector_settings: Mapping[str, Any]) -> Embedder:
        embedder = create_embedder(self.modality, vector_settings)
        assert isinstance(embedder, DreamSimEmbedder)
        embedder.load(self.machine)
        return embedder


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    """Real ones, of which the first three are not square."""
    return photos()[3:12]


@pytest.fixture(scope="module")
def golden(cache: Path, pictures: list[Pixels]) -> Vectors:
    return reference(cache, "open_clip_vitb32", pictures)


def check_golden(embedder: DreamSimEmbedder, pictures: Sequence[Pixels], golden: Vectors) -> None:
    difference = np.abs(embedder.embed(pictures[: len(golden)]) - golden).max()
    assert difference <= 1e-5, difference


def fails_golden(embedder: DreamSimEmbedder, pictures: Sequence[Pixels], golden: Vectors) -> bool:
    with pytest.raises(AssertionError):
        check_golden(embedder, pictures[:3], golden[:3])
    return True


def test_vectors_are_those_of_the_library(machine: Machine, pictures: list[Pixels], golden: Vectors) -> None:
    assert median_cosine(golden) < 0.5  # or else wrong code could pass
    check_golden(loaded(machine), pictures, golden)


# What happens to a picture


bicubic = prepare_with(Image.Resampling.BICUBIC)
PREPARATIONS: dict[str, Callable[[Pixels], NDArray[Any]]] = {
    "bilinear": prepare_with(Image.Resampling.BILINEAR),
    "lanczos": prepare_with(Image.Resampling.LANCZOS),
    "cropped": crop,
    "BGR": lambda pixels: bicubic(np.ascontiguousarray(pixels[..., ::-1])),
    "transposed": lambda pixels: bicubic(pixels).transpose(1, 0, 2),
}


@pytest.mark.parametrize("mutant", PREPARATIONS)
def test_any_other_preprocessing_fails_the_golden_test(
    machine: Machine, pictures: list[Pixels], golden: Vectors, mutant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = loaded(machine)
    monkeypatch.setattr(embedder, "prepare", PREPARATIONS[mutant])
    assert fails_golden(embedder, pictures, golden)


def test_pictures_reach_the_network_as_the_library_makes_them(machine: Machine, cache: Path) -> None:
    import torch

    _, preprocess = original(cache, "open_clip_vitb32")
    embedder = loaded(machine)
    for picture in photos():
        ours = torch.from_numpy(embedder.prepare(picture)).permute(2, 0, 1) / 255.0
        assert torch.equal(ours, preprocess(Image.fromarray(picture))[0])


def test_shrinking_at_decoding_changes_next_to_nothing(machine: Machine, cache: Path) -> None:
    shrunk, full = shrunk_and_full(4)
    golden = reference(cache, "open_clip_vitb32", full)
    cosines = (loaded(machine).embed(shrunk) * golden).sum(axis=1)
    assert cosines.min() >= 0.999, cosines


# What happens inside of the network


def swap_gelu(monkeypatch: pytest.MonkeyPatch) -> None:
    from dreamsim.feature_extraction import load_clip_as_dino, load_open_clip_as_dino

    monkeypatch.setattr(load_open_clip_as_dino, "load_open_clip_as_dino", load_clip_as_dino.load_clip_as_dino)


def change_model(change: "Callable[[Any], None]") -> Callable[[pytest.MonkeyPatch], None]:
    def mutate(monkeypatch: pytest.MonkeyPatch) -> None:
        original = dreamsim_network._load_backbone

        def load(name: str, folder: Path) -> "tuple[Any, torch.Tensor | None]":
            model, projection = original(name, folder)
            change(model)
            return model, projection

        monkeypatch.setattr(dreamsim_network, "_load_backbone", load)

    return mutate


def other_epsilon(model: Any) -> None:
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6


def no_first_norm(model: Any) -> None:
    import torch

    model.pos_drop = torch.nn.Identity()


def swapped_norms(model: Any) -> None:
    for block in model.blocks:
        block.norm1, block.norm2 = block.norm2, block.norm1


def other_statistic(name: str, value: NDArray[np.float32]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(f"dreamsim.constants.{name}", tuple(value.tolist()))


NETWORKS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "QuickGELU": swap_gelu,
    "epsilon": change_model(other_epsilon),
    "no first normalisation": change_model(no_first_norm),
    "swapped normalisations": change_model(swapped_norms),
    "mean": other_statistic("OPENAI_CLIP_MEAN", IMAGENET_MEAN),
    "std": other_statistic("OPENAI_CLIP_STD", IMAGENET_STD),
    "not adapted": lambda monkeypatch: monkeypatch.setattr(dreamsim_network, "_merge_adapter", lambda *_: None),
}


def mutated(cache: Path, kind: str) -> DreamSimEmbedder:
    """An embedder straight from the library's folder, as the code now is."""
    embedder = DreamSimEmbedder({"name": f"dreamsim.{kind}", "digest": "", "dim": TYPES[kind].dim}, 448)
    embedder._network = dreamsim_network.load_network(cache, f"dreamsim.{kind}", "cpu")
    return embedder


@pytest.mark.parametrize("mutant", NETWORKS)
def test_any_other_network_fails_the_golden_test(
    cache: Path, pictures: list[Pixels], golden: Vectors, mutant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        NETWORKS[mutant](patched)
        embedder = mutated(cache, "open_clip_vitb32")
    assert fails_golden(embedder, pictures, golden)


@pytest.mark.parametrize("mutant", ["not centred", "centred on the batch"])
def test_any_other_centring_fails_the_golden_test(
    machine: Machine, pictures: list[Pixels], golden: Vectors, mutant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def mean(rows: "torch.Tensor", dim: int, keepdim: bool) -> "torch.Tensor":
        return torch.zeros(1) if mutant == "not centred" else mean_of(rows, dim=0, keepdim=keepdim)

    mean_of = torch.Tensor.mean
    embedder = loaded(machine)
    monkeypatch.setattr(torch.Tensor, "mean", mean)
    assert fails_golden(embedder, pictures, golden)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0])
def test_numbers_that_are_not_finite_make_no_vector(cache: Path, value: float) -> None:
    import torch

    def network(pictures: torch.Tensor) -> torch.Tensor:
        rows = torch.linspace(-1, 1, 512).repeat(len(pictures), 1)
        rows[pictures.mean((1, 2, 3)) > 0.5, : 512 if value == 0 else 1] = value
        return rows

    embedder = DreamSimEmbedder({"name": "dreamsim.clip_vitb32", "digest": "", "dim": 512}, 448)
    embedder._network = network
    rows = embedder.embed([np.full((9, 9, 3), grey, np.uint8) for grey in (0, 255, 0)])
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, False]
    assert embedder.no_vector == ("not_finite", "dreamsim makes numbers of this picture that are not finite")


@pytest.mark.parametrize("batch_size", [5, 32])
def test_a_real_model_and_real_workers_make_what_it_makes_alone(
    machine: Machine, tmp_path: Path, batch_size: int
) -> None:
    card = find_model(machine.models_root, NAME).card
    embedder = DreamSimEmbedder(card, 64)
    embedder.load(machine)
    pending = write_photos(tmp_path / "photos", IMAGES_PER_PART + 3)
    path = write_chunk(
        tmp_path, pending, fingerprints={"color": COLOR, "dreamsim": embedder.spec.fingerprint},
        vector_settings={**SETTINGS, "dreamsim_type": card},
    )  # fmt: skip
    with WorkerPool(2, preload=["imgrec.embedders.work.worker"]) as pool:
        on = Machine(machine.models_root, "cpu", batch_size)
        assert embed_chunk(path, pool, 2, on).embedded == IMAGES_PER_PART + 3
    (shard,) = [read_shard(found) for found in list_shards(tmp_path / "shards", embedder.spec.fingerprint)]
    pictures = [decode(photo.read_bytes(), 64, 1) for photo in sorted((tmp_path / "photos").iterdir())]
    assert np.abs(shard.vectors - embedder.embed(pictures)).max() <= 1e-5


# All types


def test_types_are_those_of_the_library() -> None:
    from dreamsim.config import dreamsim_args, dreamsim_weights
    from dreamsim.model import EMBED_DIMS

    theirs = {kind: facts for kind, facts in dreamsim_args["model_config"].items() if not kind.endswith("_patch")}
    assert theirs.keys() == TYPES.keys() <= dreamsim_weights.keys()
    for kind, facts in theirs.items():
        backbones, features = facts["model_type"].split(","), facts["feat_type"].split(",")
        assert TYPES[kind].backbones == tuple(backbones)
        assert TYPES[kind].dim == sum(
            EMBED_DIMS[name][feature] for name, feature in zip(backbones, features, strict=True)
        )
        assert features == ["embedding" if "clip" in name else "cls" for name in backbones]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("kind", TYPES)
def test_vectors_of_every_type_are_those_of_the_library(
    cache: Path, pictures: list[Pixels], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    theirs = reference(cache, kind, pictures[:3])
    before = torch.hub.get_dir()
    check_golden(mutated(cache, kind), pictures, theirs)
    assert torch.hub.get_dir() == before
    assert median_cosine(theirs) < 0.5
    if all("clip" not in name for name in TYPES[kind].backbones):
        load = dreamsim_network._load_backbone
        # where there is a projection, the first token is taken after the last normalisation
        monkeypatch.setattr(dreamsim_network, "_load_backbone", lambda *name: (load(*name)[0], torch.eye(NARROW)))
        assert fails_golden(mutated(cache, kind), pictures, theirs)


def test_the_gelu_is_not_that_of_the_other_clip(cache: Path, pictures: list[Pixels], golden: Vectors) -> None:
    """The weights are the same here."""
    assert fails_golden(mutated(cache, "clip_vitb32"), pictures, golden)
