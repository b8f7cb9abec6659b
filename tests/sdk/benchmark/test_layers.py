"""Times of layers carry the names of the weights, whatever ONNX Runtime fused and called them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from blendmask_edge.benchmark.layers import time_layers
from blendmask_edge.bundle.tensors import constant_inputs
from tests.sdk.small_bundles import build_graph

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
FLOAT = onnx.TensorProto.FLOAT


def two_convolutions(quantized: bool) -> bytes:
    """Return a convolution and its activation, fused at run time, then one whose weights are quantized or not."""
    helper = onnx.helper
    rng = np.random.default_rng(0)
    first = rng.normal(size=(8, 3, 3, 3)).astype(np.float32)
    second = rng.normal(size=(8, 8, 1, 1)).astype(np.float32)
    weights = [onnx.numpy_helper.from_array(first, "network.stem.conv.weight")]
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], to=FLOAT, name="node_cast"),
        helper.make_node("Transpose", ["cast"], ["pixels"], perm=[0, 3, 1, 2], name="node_pixels"),
        helper.make_node("Conv", ["pixels", "network.stem.conv.weight"], ["conv2d"], name="node_conv2d"),
        helper.make_node("Relu", ["conv2d"], ["relu"], name="node_relu"),
    ]
    if quantized:
        weights += [
            onnx.numpy_helper.from_array((second * 20).astype(np.int8), "network.head.integers"),
            onnx.numpy_helper.from_array(np.array(0.05, np.float32), "scale"),
        ]
        nodes.append(helper.make_node("DequantizeLinear", ["network.head.integers", "scale"], ["head"]))
    else:
        weights.append(onnx.numpy_helper.from_array(second, "network.head.weight"))
    name = "head" if quantized else "network.head.weight"
    nodes.append(helper.make_node("Conv", ["relu", name], ["conv2d_1"], name="node_conv2d_1"))
    given = helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, 32, 48, 3])
    result = helper.make_tensor_value_info("conv2d_1", FLOAT, [1, 8, 30, 46])
    graph = helper.make_graph(nodes, "two", [given], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def images() -> Any:
    return [np.full((1, 32, 48, 3), value, np.uint8) for value in (0, 100, 200)]


@pytest.mark.parametrize("quantized", [False, True])
def test_convolutions_are_named_after_their_weights(images: Any, quantized: bool) -> None:
    layers = time_layers(two_convolutions(quantized), images, {}, threads=1)
    names = [layer.name for layer in layers]
    assert {"stem.conv", "head"} <= set(names)
    assert all(name in ("stem.conv", "head") or name.startswith("(") for name in names)
    assert len(set(names)) == len(names)
    times = [layer.milliseconds for layer in layers]
    assert times == sorted(times, reverse=True)


def test_other_operators_stand_in_brackets_and_inputs_are_given(images: Any) -> None:
    layers = time_layers(build_graph(threshold_input=True), images, constant_inputs(0.5), threads=1)
    assert "(ReduceMean)" in {layer.name for layer in layers}


def test_without_onnx_runtime_nothing_is_timed(images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert time_layers(build_graph(), images, {}) == []
