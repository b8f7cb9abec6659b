"""Precisions of layers are read from recorded answers of the engine inspector."""

from __future__ import annotations

import numpy as np
import pytest

from blendmask_edge import InferenceError
from blendmask_edge.verification.layers import quantized_convolutions, read_layers
from tests.sdk.verification.recorded import FLOAT, HALF, INT8, information, layer

NAMES = ["/stem/Conv", "/tower/Conv", "/head/Conv"]


def test_each_quantized_convolution_that_reads_int8_is_counted() -> None:
    layers = [
        layer("/stem/Conv + /stem/Relu", INT8),
        layer("/tower/Conv || /head/Conv", INT8),
        layer("Reformatting CopyNode for Input Tensor 0 to /stem/Conv", FLOAT, "Reformat"),
        layer("/scores/Sigmoid", HALF, "PointWise"),
    ]
    found = read_layers(information(layers), NAMES)
    assert found.faults() == []
    assert found.metrics() == {
        "layers": 4, "reformats": 1, "int8_layers": 2, "half_layers": 1, "float_layers": 1,
        "convolutions_int8": 3, "convolutions_not_int8": 0, "convolutions_unnamed": 0,
    }  # fmt: skip


def test_convolution_in_float_is_named_and_one_that_no_layer_names_is_told_apart() -> None:
    metadata = "[ONNX Layer: /tower/Conv]\x1e[ONNX Layer: /tower/Relu]"
    layers = [layer("/stem/Conv", HALF), layer("__myl_Conv_1", INT8, metadata=metadata)]
    found = read_layers(information(layers), NAMES)
    assert (found.int8, found.not_int8, found.unnamed) == (("/tower/Conv",), ("/stem/Conv",), ("/head/Conv",))
    assert found.faults() == ["1 quantized convolutions do not read INT8: /stem/Conv"]


@pytest.mark.parametrize("answer", [information(["/stem/Conv", "/tower/Conv"]), "{}", "no JSON", '{"Layers": 3}'])
def test_engine_that_was_built_without_details_is_told(answer: str) -> None:
    with pytest.raises(InferenceError, match=r"does not describe the layers.*build it again"):
        read_layers(answer, NAMES)


def test_quantized_convolutions_are_found_by_their_weights() -> None:
    onnx = pytest.importorskip("onnx")
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    weights = [
        array(np.float32(0.5), "step"), array(np.int8(0), "zero"), array(np.ones((1, 1, 1, 1), np.int8), "stored"),
        array(np.ones((1, 1, 1, 1), np.float32), "real"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["stored", "step", "zero"], ["w"]),
        helper.make_node("Conv", ["dq", "w"], ["a"], name="direct"),
        helper.make_node("MaxPool", ["dq"], ["pooled"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["pooled", "w"], ["without a name"]),
        helper.make_node("Conv", ["dq", "real"], ["c"], name="float"),
    ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, 4, 4]) for name in ("x", "c")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert quantized_convolutions(model.SerializeToString()) == ["direct", "without a name"]
