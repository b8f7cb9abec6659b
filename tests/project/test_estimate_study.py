"""The study of estimates fits a rate and a bandwidth, and tells how far predictions are off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from bench.lib.published_times import folded, in_int8, with_relu
from bench.lib.sessions import RUNTIMES
from bench.lib.study import write_study
from bench.lib.tables import estimate_table
from bench.lib.timed_networks import INT8, TimedNetwork
from bench.studies.estimate import convolutions, factors, fit, predictions, profile, quality, with_earlier
from blendmask_edge.bundle.graph_cost import LayerCost, graph_cost
from blendmask_edge.devices.table import Rates
from tests.sdk.devices.test_roofline import network as one_convolution

TRUE = Rates(device="a CPU", int8_tops=0.4, float_tflops=0.1, bandwidth_gb_s=8, launch_us=0)
COSTS = [LayerCost(str(n), "Conv", 10 ** (5 + n % 4), True, n % 5 == 0, 10 ** (4 + n % 3), 0) for n in range(40)]


def test_fit_finds_the_rates_that_made_the_times() -> None:
    seconds = predictions(COSTS, TRUE)
    found = fit(COSTS, seconds)
    assert found.int8_tops == pytest.approx(0.4, rel=0.1)
    assert found.bandwidth_gb_s == pytest.approx(8, rel=0.1)
    row = quality(COSTS, seconds, found)
    assert row["factor_p50"] < 1.1
    assert row["rank_correlation"] > 0.99


def test_factor_is_the_same_for_too_long_and_too_short() -> None:
    seconds = predictions(COSTS, TRUE)
    np.testing.assert_allclose(factors(COSTS, 2 * seconds, TRUE), 2)
    np.testing.assert_allclose(factors(COSTS, seconds / 2, TRUE), 2)


@pytest.mark.parametrize(
    "name, kind", [("node_conv_token_7", "QLinearConv"), ("node_conv/fused", "Convolution"), ("conv", "Convolution")]
)
def test_profile_gives_its_times_to_the_layers_of_the_graph(name: str, kind: str) -> None:
    model = onnx.load_from_string(one_convolution(quantized=True))
    next(node for node in model.graph.node if node.op_type == "Conv").name = "node_conv"
    graph = model.SerializeToString()
    layers = {(name, kind): 0.25, ("node_add_token_8", "QLinearAdd"): 0.001}
    assert convolutions(graph, layers) == {graph_cost(graph).layers[0]: pytest.approx(250e-6)}


def test_layers_that_could_be_the_same_node_are_left_out() -> None:
    model = onnx.load_from_string(one_convolution(quantized=True))
    next(node for node in model.graph.node if node.op_type == "Conv").name = "node_conv"
    layers = {("node_conv", "Convolution"): 0.25, ("node_conv_5/fused", "Convolution"): 0.5}
    assert convolutions(model.SerializeToString(), layers) == {}


def test_rows_that_a_call_does_not_measure_stay(tmp_path: Path) -> None:
    """Times of this CPU must not cost the published rows, which need a package that is not installed everywhere."""
    earlier = [{"name": "published/yolo11n", "factor": 1.1}, {"name": "onnxruntime/fitted", "layers": 1}]
    write_study("estimate", earlier, tmp_path)
    rows = with_earlier({"onnxruntime/fitted": {"name": "onnxruntime/fitted", "layers": 35}}, tmp_path)
    assert rows == [{"name": "onnxruntime/fitted", "layers": 35}, {"name": "published/yolo11n", "factor": 1.1}]


def test_table_tells_of_a_processor_without_vnni() -> None:
    row = {"layers": 35, "factor_p50": 1.1, "factor_p90": 1.3, "rank_correlation": 0.9, "without_vnni": 1}
    assert "no VNNI" in estimate_table({"openvino/held_out": row})
    assert "no VNNI" not in estimate_table({"openvino/held_out": {**row, "without_vnni": 0}})


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_int8_convolutions_of_a_graph_are_timed(runtime: str, network: TimedNetwork) -> None:
    pytest.importorskip(runtime)
    graph = network.graphs[INT8].SerializeToString()
    timed = profile(runtime, graph, network.size, 2)
    expected = [cost for cost in graph_cost(graph).layers if cost.is_int8 and cost.operator == "Conv"]
    assert len(expected) > 20
    assert len(timed) >= 0.9 * len(expected), "OpenVINO renames a few"
    assert all(seconds > 0 for seconds in timed.values())


def test_convolutions_of_a_float_network_are_estimated_as_if_quantized() -> None:
    float_cost, cost = (
        graph_cost(one_convolution(quantized=False)),
        in_int8(graph_cost(one_convolution(quantized=False))),
    )
    assert cost.macs == float_cost.macs
    convolutions_of = [layer for layer in cost.layers if layer.operator == "Conv"]
    assert convolutions_of
    assert all(layer.is_int8 and not layer.float_elements for layer in convolutions_of)


def test_silu_costs_what_relu_does() -> None:
    helper, tensor = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", tensor.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("y", tensor.FLOAT, [1, 4, 8, 8])],
        [onnx.numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (layer,) = graph_cost(with_relu(folded(model.SerializeToString()))).layers
    assert (layer.operator, layer.macs, layer.float_elements) == ("Conv", 4 * 4 * 64, 4 * 64 + 16 + 4 * 64)
