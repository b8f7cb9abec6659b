"""TensorRT's parser takes the `tensorrt` graphs layer for layer, and TensorRT-RTX builds them ahead of time.

`make targets-check` runs this in an environment of its own.
"""

from __future__ import annotations

import onnx
import pytest

from bench.lib.without_gpu import FIRST_WITH_INT8_CONVOLUTIONS, LAYERS, RefusedError, parse, rtx_version
from blendmask_edge.runtimes.tensorrt.half import half_remainder
from blendmask_edge.verification.layers import quantized_convolutions
from tests.targets.conftest import PARSED_LAYERS, Case

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: make targets-check")
SMS = ("7.5", "8.6", "12.0")


def test_each_node_becomes_its_layer(case: Case) -> None:
    layers = parse(case.graph).layers
    assert layers["QUANTIZE"] == case.nodes["QuantizeLinear"] > 50
    assert layers["DEQUANTIZE"] == case.nodes["DequantizeLinear"] > 100
    assert layers["CONVOLUTION"] == case.nodes["Conv"]
    assert layers["TOPK"] == case.nodes["TopK"] == 3
    assert layers["MATRIX_MULTIPLY"] == case.nodes["MatMul"] + case.nodes["Gemm"]
    assert set(layers) <= LAYERS


def test_the_graph_has_no_more_layers_than_before(case: Case) -> None:
    layers = parse(case.graph).layers
    assert layers.total() <= PARSED_LAYERS[case.name], dict(layers)


def test_layers_of_quantized_convolutions_have_the_names_that_the_engine_is_searched_for(case: Case) -> None:
    """`verify-device` finds the layers of an engine by these names."""
    assert sorted(parse(case.graph).convolutions) == sorted(quantized_convolutions(case.graph))


@pytest.mark.skipif(rtx_version() < FIRST_WITH_INT8_CONVOLUTIONS, reason="this TensorRT-RTX builds no INT8 convolution")
@pytest.mark.parametrize("sm", SMS)
def test_the_graph_is_built_ahead_of_time(case: Case, sm: str) -> None:
    assert parse(case.graph, sm).plan_bytes > len(case.graph) / 4


@pytest.mark.skipif(rtx_version() < FIRST_WITH_INT8_CONVOLUTIONS, reason="this TensorRT-RTX builds no INT8 convolution")
@pytest.mark.parametrize("sm", [*SMS, "8.9"])
def test_the_graph_with_a_half_remainder_is_built(case: Case, sm: str) -> None:
    built = parse(half_remainder(case.graph), sm)
    assert built.plan_bytes > len(case.graph) / 4
    for layer, node in (("QUANTIZE", "QuantizeLinear"), ("DEQUANTIZE", "DequantizeLinear"), ("CONVOLUTION", "Conv")):
        assert built.layers[layer] == case.nodes[node]
    assert set(built.layers) <= LAYERS


def test_a_graph_that_is_not_for_tensorrt_is_refused(case: Case) -> None:
    model = onnx.load_from_string(case.graph)
    zero = next(node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear")
    tensor = next(entry for entry in model.graph.initializer if entry.name == zero)
    tensor.ClearField("int32_data")
    tensor.raw_data = b"\x03"
    with pytest.raises(RefusedError, match="does not parse"):
        parse(model.SerializeToString())
