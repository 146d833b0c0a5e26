"""Where models run. What only a GPU does is tested without one: with torch's own fake tensors, and a fake stream."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from imgrec.embedders import devices
from imgrec.embedders.base import LearnedEmbedder, Prepared
from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.devices import PRECISIONS, Place, _stream, find_place
from imgrec.embedders.errors import DeviceError
from imgrec.embedders.machine import Machine
from imgrec.embedders.modalities import dreamsim, efficientnet, openclip
from imgrec.embedders.modalities.dreamsim import DreamSimEmbedder
from imgrec.embedders.modalities.efficientnet import EfficientNetEmbedder
from imgrec.embedders.modalities.openclip import OpenClipEmbedder
from imgrec.embedders.models.dreamsim_adding import add_dreamsim
from imgrec.embedders.models.dreamsim_network import load_network
from imgrec.embedders.models.openclip_adding import add_openclip
from imgrec.embedders.work.forward import ForwardStage
from imgrec.embedders.work.worker import embed_chunk
from tests.embedders.learned import photos
from tests.embedders.openclip_files import write_folder
from tests.embedders.work.test_forward import SmallDevice, numbers_of, part
from tests.embedders.work.test_worker import scan, write_chunk, write_photos
from tests.storage.pictures import InProcess

if TYPE_CHECKING:
    from torch import Tensor


def have(monkeypatch: pytest.MonkeyPatch, gpus: int, mps: bool = False) -> None:
    """Let torch see these devices, whatever this machine has."""
    monkeypatch.setattr(devices, "may_have_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)


# Which


@pytest.mark.parametrize(
    ("asked", "gpus", "mps", "found"),
    [
        ("auto", 0, False, "cpu"),
        ("auto", 2, False, "cuda:0"),
        ("auto", 0, True, "mps"),
        ("cpu", 2, True, "cpu"),
        ("cuda", 2, False, "cuda:0"),
        ("cuda:1", 2, False, "cuda:1"),
        ("mps", 0, True, "mps"),
    ],
)
def test_the_device_asked_for_is_found(
    asked: str, gpus: int, mps: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, gpus, mps)
    assert find_place(asked, "bf16") == Place(found, "bf16")


@pytest.mark.parametrize(
    ("asked", "gpus", "cuda", "said"),
    [
        ("cuda", 0, None, "device = cuda: there is cpu (torch 2.99+cpu is built without CUDA: install one with it)"),
        ("cuda:0", 0, "13.0", "device = cuda:0: there is cpu (torch sees no GPU: does `nvidia-smi` show one, and a "),
        ("cuda:2", 2, "13.0", "device = cuda:2: there is cuda:0, cuda:1, cpu; name one, or auto"),
        ("mps", 1, "13.0", "device = mps: there is cuda:0, cpu; name one, or auto"),
    ],
)
def test_one_that_is_not_there_is_said_with_those_that_are(
    asked: str, gpus: int, cuda: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, gpus)
    monkeypatch.setattr("torch.version.cuda", cuda)
    monkeypatch.setattr("torch.__version__", "2.99+cpu")
    with pytest.raises(DeviceError) as told:
        find_place(asked)
    assert str(told.value).startswith(said)
    assert "\n" not in str(told.value)


def test_it_is_said_before_any_image_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, 0)
    write_photos(tmp_path / "photos", 3)
    fingerprints = {"efficientnet": create_embedder("efficientnet", {"decode_min_side": 448}).spec.fingerprint}
    pending = scan(tmp_path / "photos")
    path = write_chunk(tmp_path, pending, fingerprints=fingerprints, vector_settings={"decode_min_side": 448})
    executor = InProcess()
    with pytest.raises(DeviceError, match="device = cuda:0"):
        embed_chunk(path, executor, 1, Machine(device="cuda:0"))
    assert executor.calls == 0


# How pictures get there


def test_batches_go_to_cuda_pinned_and_beside_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []

    class Stream:
        def __init__(self, device: str) -> None:
            self.device = device

        def synchronize(self) -> None:
            done.append("wait")

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        done.append(f"on a stream of {stream.device}")
        yield
        done.append("off it")

    def pin(tensor: "Tensor") -> "Tensor":
        done.append("pin")
        return tensor

    def to(tensor: "Tensor", device: str, non_blocking: bool = False) -> "Tensor":
        done.append(("to", device, non_blocking))
        return tensor

    monkeypatch.setattr("torch.cuda.Stream", Stream)
    monkeypatch.setattr("torch.cuda.stream", on)
    monkeypatch.setattr("torch.Tensor.pin_memory", pin)
    monkeypatch.setattr("torch.Tensor.to", to)
    batch = np.arange(6, dtype=np.uint8).reshape(2, 3)
    _stream.cache_clear()
    assert Place("cuda:1").send(batch).tolist() == batch.tolist()
    assert _stream("cuda:1") is _stream("cuda:1")  # torch keeps the memory of each for itself
    _stream.cache_clear()  # the fake one
    assert done == ["on a stream of cuda:1", "pin", ("to", "cuda:1", True), "off it", "wait"]


def test_everything_of_a_model_is_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake tensors are nowhere and still refuse to meet those of another device."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    fetched: list[Tensor] = []
    monkeypatch.setattr(efficientnet, "find_place", Place)
    monkeypatch.setattr(Place, "fetch", lambda _, rows: fetched.append(rows))
    efficientnet._network.cache_clear()
    embedder = EfficientNetEmbedder(448)
    with FakeTensorMode(allow_non_fake_inputs=True):
        embedder.load(Machine(device="cuda:1"))
        embedder.forward(torch.empty((5, 224, 224, 3), dtype=torch.uint8, device="cuda:1"))
        with pytest.raises(RuntimeError, match="same device"):
            embedder.forward(torch.empty((5, 224, 224, 3), dtype=torch.uint8))
    efficientnet._network.cache_clear()  # the fake one
    assert [(str(rows.device), tuple(rows.shape)) for rows in fetched] == [("cuda:1", (5, efficientnet.DIM))]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> "list[Tensor]":
    """What is fetched from the meta device, on which tensors have no numbers and refuse to meet those of another."""
    import torch

    found: list[Tensor] = []
    for module in (dreamsim, openclip):
        monkeypatch.setattr(module, "find_place", lambda device, precision: Place("meta", precision))
    monkeypatch.setattr(Place, "_in_this_thread", lambda _: torch.inference_mode())  # it knows no autocast
    monkeypatch.setattr(Place, "fetch", lambda _, rows: found.append(rows))
    return found


@contextmanager
def one_device() -> Iterator[None]:
    """Refuse every operation on tensors of two devices, also those that the meta device would let pass."""
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils._pytree import tree_leaves

    class OneDevice(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            # rows may be picked by numbers that are on the CPU, as open_clip does
            assert len({tensor.device for tensor in tensors}) <= 1 or function is torch.Tensor.__getitem__, function
            return function(*args, **(kwargs or {}))

    with OneDevice():
        yield


def check_on_device(embedder: LearnedEmbedder, machine: Machine, fetched: "list[Tensor]") -> None:
    import torch

    embedder.load(machine)
    with one_device():
        embedder.forward(torch.empty((3, 224, 224, 3), dtype=torch.uint8, device="meta"))
        with pytest.raises(AssertionError):
            embedder.forward(torch.zeros((3, 224, 224, 3), dtype=torch.uint8))
    assert [(rows.device.type, tuple(rows.shape)) for rows in fetched] == [("meta", (3, embedder.spec.dim))]


def test_everything_of_openclip_is_on_the_device(fetched: "list[Tensor]", tmp_path: Path) -> None:
    model = add_openclip(tmp_path / "models", "tiny", write_folder(tmp_path / "tiny"))
    embedder = OpenClipEmbedder(model.card, 448)
    check_on_device(embedder, Machine(tmp_path / "models"), fetched)
    embedder.embed_texts(["a red car"], Machine(tmp_path / "models"))  # loads the tower
    with one_device():
        embedder.embed_texts(["a red car"], Machine(tmp_path / "models"))
    assert (fetched[-1].device.type, tuple(fetched[-1].shape)) == ("meta", (1, model.dim))


@pytest.mark.usefixtures("narrow_dreamsim")
def test_everything_of_dreamsim_is_on_the_device(fetched: "list[Tensor]", tmp_path: Path, narrow_cache: Path) -> None:
    model = add_dreamsim(tmp_path, "dreamsim.open_clip_vitb32", narrow_cache)
    check_on_device(DreamSimEmbedder(model.card, 448), Machine(tmp_path), fetched)


@pytest.mark.usefixtures("narrow_dreamsim")
def test_everything_of_all_dreamsims_is_on_the_device(narrow_cache: Path) -> None:
    import torch

    network = load_network(narrow_cache, "dreamsim.ensemble", "meta")
    with one_device():
        assert network(torch.empty(2, 3, 224, 224, device="meta")).device.type == "meta"


def test_a_batch_that_cannot_be_sent_is_halved() -> None:
    class Full(SmallDevice):
        def send(self, batch: Prepared) -> Prepared:
            import torch

            if len(batch) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return batch

    finished = list(ForwardStage({"small": Full()}, Machine(model_batch_size=4)).finish([part(1, 2, 3), part(4, 5)]))
    assert numbers_of(finished) == [[1, 2, 3], [4, 5]]


def test_two_chunks_share_one_model() -> None:
    efficientnet._network.cache_clear()

    def begin() -> None:
        ForwardStage({"efficientnet": EfficientNetEmbedder(448)}, Machine(device="cpu", model_batch_size=8))

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert efficientnet._network.cache_info().misses == 1


# In which precision


def test_threads_share_the_switches_of_float32() -> None:
    before, inside = lax(), []
    second_is_in, first_is_out = threading.Event(), threading.Event()

    def compute_longer() -> None:
        with Place("cuda:0").computing():
            second_is_in.set()
            assert first_is_out.wait(30)
            inside.append(lax())

    thread = threading.Thread(target=compute_longer)
    with Place("cuda:0").computing():
        thread.start()
        assert second_is_in.wait(30)
    first_is_out.set()
    thread.join()
    assert inside == [["ieee"] * 4]
    assert lax() == before


def test_openclip_computes_in_the_precision_of_the_library(tmp_path: Path) -> None:
    model = add_openclip(tmp_path / "models", "tiny", write_folder(tmp_path / "tiny"))
    settings = {"decode_min_side": 448, "openclip_model": model.card}
    made, words = [], []
    for precision in ("float32", "bf16"):
        embedder = create_embedder("openclip", {**settings, "precision": precision})
        assert isinstance(embedder, OpenClipEmbedder)
        embedder.load(Machine(tmp_path / "models", "cpu"))
        made.append(embedder.embed(photos()[:4]))
        words.append(embedder.embed_texts(["a red car"], Machine(tmp_path / "models", "cpu")))
    for exact, coarse in (made, words):
        assert np.abs(exact - coarse).max() > 1e-4
        assert (exact * coarse).sum(axis=1).min() > 0.9


def lax() -> list[str]:
    """How exactly torch computes float32 now."""
    import torch

    backends: Any = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    return [part.fp32_precision for part in parts]


@pytest.mark.parametrize("kind", ["cpu", "cuda:0"])
def test_float32_is_never_tf32(kind: str) -> None:
    import torch

    assert lax()[1] == "tf32", "torch is not as lax as it was, and this test without force"
    torch.set_float32_matmul_precision("medium")  # a program that uses the searcher may want this
    try:
        with torch.autocast("cpu", torch.bfloat16), Place(kind).computing():
            assert lax() == ["ieee"] * 4
            assert torch.is_inference_mode_enabled()
            assert kind != "cpu" or (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    with Place(kind).computing():
        pass
    assert lax()[1] == "tf32"  # as the program had it


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_asked_for_and_another_fingerprint(precision: str) -> None:
    import torch

    plain, explicit, lower = (
        create_embedder("efficientnet", {"decode_min_side": 448, **chosen})
        for chosen in ({}, {"precision": "float32"}, {"precision": precision})
    )
    assert plain.spec.fingerprint == explicit.spec.fingerprint != lower.spec.fingerprint
    with Place("cpu", precision).computing():
        assert str((torch.ones(2, 2) @ torch.ones(2, 2)).dtype) == f"torch.{PRECISIONS[precision]}"
    pictures = photos()[:4]
    exact, coarse = plain.embed(pictures), lower.embed(pictures)
    assert coarse.dtype == np.float32
    assert np.abs(exact - coarse).max() > 1e-4
    assert np.abs((coarse * coarse).sum(axis=1) - 1).max() < 1e-6
    assert (exact * coarse).sum(axis=1).min() > 0.995
