"""EfficientNet-Lite0 without its classifier: its weights, and the network in either runtime.

The files in embedders/data are made by benchmarks/make_efficientnet_onnx.py: weights as safetensors, and a graph that
says to ONNX Runtime what to do with them. torch takes the same weights.
"""

import hashlib
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from imgrec.embedders.errors import ModelFileError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

DATA = Path(__file__).parent.parent / "data"
WEIGHTS, GRAPH = "efficientnet-lite0.safetensors", "efficientnet-lite0.onnx"
SHA256 = {
    WEIGHTS: "7657615c928e02056cde0256204386cfa7dccb9d2e7a67178f90c5a5cbe32c68",
    GRAPH: "deceb1b06c8f7b9eb16b80a0f26df3ebeff38e6713c694398a7c22bfb3374bb6",
}
# Of the file that the weights were published in: fingerprints name them by it.
ORIGINAL_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PICTURES = "pictures"
EPSILON = 1e-3
# Of the depthwise convolution of each block; all else about them is in the shapes of their weights.
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
REMEDY = "install image-recommender anew, with `pip install --force-reinstall --no-deps`"


def read_file(name: str) -> bytes:
    """Return one of the two files, verified.

    Raises:
        ModelFileError: it is missing, or is not what was shipped.
    """
    path = DATA / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): {REMEDY}") from error
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise ModelFileError(f"{path} is not the file that was shipped: {REMEDY}")
    return data


def in_onnx_runtime() -> Callable[[Any], Any]:
    """Load the network on the CPU: normalised pictures (N, 3, 224, 224) float32 → features (N, 1280), as arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # threads have pictures of their own
    options.log_severity_level = 4  # what fails is raised
    weights = read_file(WEIGHTS)
    options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
    with _short_of_memory():
        session = onnxruntime.InferenceSession(read_file(GRAPH), options, providers=["CPUExecutionProvider"])

    def network(pictures: Any) -> Any:
        with _short_of_memory():
            return session.run(None, {PICTURES: pictures})[0]

    return network


def in_torch(device: str) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Load the network onto a device: normalised pictures (N, 3, 224, 224) → features (N, 1280)."""
    from safetensors.torch import load

    weights = {name: values.to(device) for name, values in load(read_file(WEIGHTS)).items()}
    return lambda pictures: _features(weights, pictures)


def _features(weights: "Mapping[str, torch.Tensor]", pictures: "torch.Tensor") -> "torch.Tensor":
    from torch.nn.functional import batch_norm, conv2d, pad, relu6

    def convolve(flow: "torch.Tensor", convolution: str, norm: str, stride: int) -> "torch.Tensor":
        kernel = weights[convolution]
        height, width = (_padding(flow.shape[axis], kernel.shape[axis], stride) for axis in (2, 3))
        flow = conv2d(pad(flow, [*width, *height]), kernel, stride=stride, groups=groups_of(kernel))
        scale, bias, mean, variance = (weights[name] for name in norm_names(norm))
        return batch_norm(flow, mean, variance, scale, bias, eps=EPSILON)

    return through_network(pictures, weights, convolve, relu6, operator.add).mean((2, 3))


def through_network(
    flow: T,
    weights: Mapping[str, Any],
    convolve: Callable[[T, str, str, int], T],
    relu6: Callable[[T], T],
    add: Callable[[T, T], T],
) -> T:
    """Take pictures to the last feature maps, in whatever computes it or writes it down.

    `convolve(flow, convolution, norm, stride)` pads as TensorFlow's "same" does, and normalises.
    """
    flow = relu6(convolve(flow, "_conv_stem.weight", "_bn0", 2))
    channels = len(weights["_conv_stem.weight"])
    for number, stride in enumerate(STRIDES):
        into, block = flow, f"_blocks.{number}."
        if (expand := f"{block}_expand_conv.weight") in weights:
            flow = relu6(convolve(flow, expand, f"{block}_bn0", 1))
        flow = relu6(convolve(flow, f"{block}_depthwise_conv.weight", f"{block}_bn1", stride))
        flow = convolve(flow, (project := f"{block}_project_conv.weight"), f"{block}_bn2", 1)
        if stride == 1 and len(weights[project]) == channels:
            flow = add(flow, into)
        channels = len(weights[project])
    return relu6(convolve(flow, "_conv_head.weight", "_bn1", 1))


def groups_of(kernel: Any) -> int:
    """The groups of a convolution by its weights: each channel alone, or one group."""
    return len(kernel) if kernel.shape[1] == 1 else 1


def norm_names(norm: str) -> list[str]:
    """The weights of a batch normalisation, in the order of ONNX."""
    return [f"{norm}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]


def _padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """What TensorFlow's "same" adds before and after: as much as a picture of side / stride needs, more of it after."""
    needed = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return needed // 2, needed - needed // 2


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
