"""The study of estimates fits a rate and a bandwidth, and tells how far predictions are off."""

from __future__ import annotations

import numpy as np
import pytest

from bench.studies.estimate import convolutions, factors, fit, predictions, quality
from blendmask_edge.bundle.graph_cost import LayerCost, graph_cost
from blendmask_edge.devices.table import Rates
from tests.sdk.devices.test_roofline import network

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


def test_profile_gives_its_times_to_the_layers_of_the_graph() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(network(quantized=True))
    next(node for node in model.graph.node if node.op_type == "Conv").name = "node_conv"
    graph = model.SerializeToString()
    event = {"name": "node_conv_token_7_kernel_time", "dur": 250, "args": {"op_name": "QLinearConv"}}
    other = {"name": "node_add_token_8_kernel_time", "dur": 1, "args": {"op_name": "QLinearAdd"}}
    assert convolutions(graph, [event, other] * 20) == {graph_cost(graph).layers[0]: pytest.approx(250e-6)}
