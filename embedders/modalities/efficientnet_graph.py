"""EfficientNet-Lite as a graph for ONNX Runtime."""

from typing import Any

PICTURES = "pictures"
# Of 2022: what onnxruntime of the last years reads, and all that is used here.
_OPSET, _IR_VERSION = 17, 8


def lite_graph(model: Any) -> bytes:
    """Return what the package's `extract_features(pictures).mean((2, 3))` computes, as an ONNX model.

    Its input `pictures` is (N, 3, side, side) float32, its output (N, channels) float32. Batch normalisations are left
    for ONNX Runtime to fold into the convolutions before them.

    Args:
        model: an `EfficientNet` of efficientnet_lite_pytorch, which has no squeeze-and-excitation.
    """
    import torch
    from onnx import NodeProto, TensorProto, helper, numpy_helper

    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []

    def add(operation: str, *inputs: str, **attributes: Any) -> str:
        output = f"flow{len(nodes)}"
        nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def constant(values: torch.Tensor) -> str:
        name = f"constant{len(constants)}"
        constants.append(numpy_helper.from_array(values.detach().numpy(), name))
        return name

    def convolve(flow: str, convolution: Any, norm: Any) -> str:
        geometry = {"strides": convolution.stride, "group": convolution.groups}
        flow = add("Conv", flow, constant(convolution.weight), auto_pad="SAME_UPPER", **geometry)  # as TensorFlow pads
        statistics = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        return add("BatchNormalization", flow, *map(constant, statistics), epsilon=norm.eps)

    def relu6(flow: str) -> str:
        return add("Clip", flow, *limits)

    limits = constant(torch.tensor(0.0)), constant(torch.tensor(6.0))
    flow = relu6(convolve(PICTURES, model._conv_stem, model._bn0))
    for block in model._blocks:
        into, arguments = flow, block._block_args
        if arguments.expand_ratio != 1:
            flow = relu6(convolve(flow, block._expand_conv, block._bn0))
        flow = relu6(convolve(flow, block._depthwise_conv, block._bn1))
        flow = convolve(flow, block._project_conv, block._bn2)
        if arguments.stride == 1 and arguments.input_filters == arguments.output_filters:
            flow = add("Add", flow, into)
    flow = add("GlobalAveragePool", relu6(convolve(flow, model._conv_head, model._bn1)))
    features = add("Flatten", flow)

    taken = helper.make_tensor_value_info(PICTURES, TensorProto.FLOAT, ["N", 3, "side", "side"])
    given = helper.make_tensor_value_info(features, TensorProto.FLOAT, ["N", model._bn1.num_features])
    graph = helper.make_graph(nodes, "efficientnet-lite", [taken], [given], constants)
    opset = helper.make_opsetid("", _OPSET)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    return bytes(made.SerializeToString())
