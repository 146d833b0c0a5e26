"""The device that models run on: which one, how pictures get there, and in which precision it computes."""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgrec.embedders.base import Prepared, Vectors
from imgrec.embedders.errors import DeviceError

if TYPE_CHECKING:
    import torch

FLOAT32 = "float32"
# The names of the setting, and torch's.
PRECISIONS = {FLOAT32: "float32", "bf16": "bfloat16", "fp16": "float16"}
# What a full device says where it is not torch's own allocator that asks: cuBLAS, cuDNN, the driver; Apple's.
_NO_MEMORY = ("STATUS_ALLOC_FAILED", "CUDA error: out of memory", "MPS backend out of memory")
# The switches of float32 are the process': who uses them, and how they were before.
_exact = threading.Lock()
_exact_users = 0
_lax: list[str] = []


@dataclass(frozen=True)
class Place:
    """A device as torch names it, and the precision in which models compute there.

    A learned embedder finds it in `load` (`find_place`), moves its weights to `device`, in float32, and then:

        def send(self, batch):
            return self._place.send(batch)

        def forward(self, batch):
            return self._place.compute(self._model, batch)
    """

    device: str = "cpu"
    precision: str = FLOAT32

    @property
    def kind(self) -> str:
        """`cpu`, `cuda` or `mps`."""
        return self.device.partition(":")[0]

    def send(self, batch: Prepared) -> "torch.Tensor":
        """Return prepared images as a tensor on the device, once they are there.

        To CUDA they go from pinned memory and on a stream of their own: in another thread, a forward pass goes on.
        """
        import torch

        there = torch.from_numpy(batch)
        if self.kind != "cuda":
            return there.to(self.device)
        stream = _stream(self.device)
        with torch.cuda.stream(stream):
            sent = there.pin_memory().to(self.device, non_blocking=True)
        stream.synchronize()
        return sent

    def compute(
        self, model: "Callable[[torch.Tensor], torch.Tensor]", batch: "torch.Tensor", at_once: int | None = None
    ) -> Vectors:
        """Return the rows that `model` makes of a batch, as float32.

        On a CPU each of torch's threads takes a part of the batch, of no more than `at_once` images. Threads that
        share every layer would wait for each other after each of them: beside workers that decode, most of the time.
        """
        import torch

        def embed(part: torch.Tensor) -> Vectors:
            with self._in_this_thread():
                return self.fetch(model(part))

        with _exact_float32():
            if self.kind != "cpu":
                return embed(batch)
            threads = torch.get_num_threads()
            size = -(-len(batch) // threads)
            parts = torch.split(batch, size if at_once is None else min(at_once, size))
            return np.concatenate(_side_by_side(embed, parts, threads))

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute without gradients and in this precision; in float32 never in TF32 or less, whatever the device can.

        What is loaded stays float32: operations that are safe in 16 bits convert it (torch.autocast).
        """
        with _exact_float32(), self._in_this_thread():
            yield

    @contextmanager
    def _in_this_thread(self) -> Iterator[None]:
        import torch

        dtype = getattr(torch, PRECISIONS[self.precision])
        with torch.inference_mode(), torch.autocast(self.kind, dtype, enabled=self.precision != FLOAT32):
            yield

    def fetch(self, rows: "torch.Tensor") -> Vectors:
        """Wait for what was computed, and return it as float32."""
        return np.asarray(rows.float().cpu().numpy())


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether it says that a device has no memory left: torch's allocator has a class for it, others only words."""
    torch = sys.modules.get("torch")
    return (torch is not None and isinstance(error, torch.OutOfMemoryError)) or any(
        words in str(error) for words in _NO_MEMORY
    )


def give_memory_back() -> None:
    """Let other processes have what torch keeps of a GPU's memory for itself."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.cuda.empty_cache()


def find_place(asked: str, precision: str = FLOAT32) -> Place:
    """Choose the device: `auto` is the first CUDA GPU, else Apple's, else the CPU.

    torch, which takes seconds to import, is asked only where there may be a GPU.

    Raises:
        DeviceError: the one asked for is not there.
    """
    if asked == "cpu" or (asked == "auto" and not (find_spec("torch") and may_have_gpu())):
        return Place("cpu", precision)
    import torch

    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    there = [*gpus, *mps, "cpu"]
    chosen = there[0] if asked == "auto" else f"{asked}:0" if asked == "cuda" else asked
    if chosen not in there:
        raise DeviceError(f"device = {asked}: there is {', '.join(there)}{_why_no_gpu(asked, gpus)}; name one, or auto")
    return Place(chosen, precision)


@cache
def may_have_gpu() -> bool:
    """Whether something is there that torch could compute on: Apple's GPU, or a driver of NVIDIA's or AMD's."""
    if sys.platform == "darwin" or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def precision_of(vector_settings: Mapping[str, Any]) -> str:
    """The precision of a library's learned embedders; one that was made before there was a choice has float32."""
    return str(vector_settings.get("precision", FLOAT32))


def precision_parameters(precision: str) -> dict[str, Any]:
    """What the precision adds to an embedder's parameters, and so to its fingerprint: float32 nothing."""
    return {} if precision == FLOAT32 else {"precision": precision}


def _why_no_gpu(asked: str, gpus: list[str]) -> str:
    import torch

    if gpus or not asked.startswith("cuda"):
        return ""
    if torch.version.cuda is None:
        return f" (torch {torch.__version__} is built without CUDA: install one with it)"
    return f" (torch sees no GPU: does `nvidia-smi` show one, and a driver for CUDA {torch.version.cuda}?)"


def _side_by_side(
    function: "Callable[[torch.Tensor], Vectors]", parts: "Sequence[torch.Tensor]", threads: int
) -> list[Vectors]:
    """Apply `function` to all parts, as many at a time as torch may have threads, each on its share of them."""
    import torch

    if len(parts) == 1:
        return [function(parts[0])]
    workers = min(threads, len(parts))
    try:
        with ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(max(1, threads // workers),)
        ) as pool:
            return list(pool.map(function, parts))
    finally:
        torch.set_num_threads(threads)  # which is also what threads to come start with


@cache
def _stream(device: str) -> "torch.cuda.Stream":
    """The stream on which pictures go to a GPU: one, since torch keeps the memory of each for itself."""
    import torch

    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # torch says no types


@contextmanager
def _exact_float32() -> Iterator[None]:
    """Switch off TF32, and bf16 in float32's clothes, where torch has them on: cuDNN's convolutions do by default.

    The first thread that computes turns the switches, and the last one turns them back.
    """
    global _exact_users, _lax

    with _exact:
        if not _exact_users:
            _lax = [backend.fp32_precision for backend in _backends()]
            for backend in _backends():
                backend.fp32_precision = "ieee"
        _exact_users += 1
    try:
        yield
    finally:
        with _exact:
            _exact_users -= 1
            if not _exact_users:
                for backend, precision in zip(_backends(), _lax, strict=True):
                    backend.fp32_precision = precision


def _backends() -> list[Any]:
    import torch

    # getattr, since mypy takes the objects that torch puts there for modules
    cuda, cudnn, mkldnn = (getattr(torch.backends, name) for name in ("cuda", "cudnn", "mkldnn"))
    return [cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
