"""Estimates follow from the graph and the table, and always say that they are estimates."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from blendmask_edge import BundleError, ConfigError, estimate
from blendmask_edge.benchmark.machine import this_machine
from blendmask_edge.bundle import write_bundle
from blendmask_edge.bundle.graph_cost import GraphCost, LayerCost, graph_cost
from blendmask_edge.cli.app import app
from blendmask_edge.devices.roofline import estimate_graph
from blendmask_edge.devices.table import load_table
from blendmask_edge.verification.report import DeviceReport, Gpu, Row, Subject, write_report
from tests.sdk.small_bundles import describe

TABLE = load_table()
CONV = LayerCost("conv", "Conv", 10**9, True, False, 10**6, 0)
MOVE = LayerCost("move", "Transpose", 0, False, False, 0, 10**6)


def made(*layers: LayerCost) -> GraphCost:
    return GraphCost(len(layers), layers, 1000, 10**6)


def likely(target: str, *layers: LayerCost, precision: Any = "int8") -> float:
    found = estimate_graph(made(*layers), TABLE.find(target), precision, TABLE)
    assert found is not None
    assert 0 < found.fixed_ms < found.likely_ms
    assert found.best_ms < found.likely_ms < found.worst_ms
    return found.likely_ms


def network(*, quantized: bool) -> bytes:
    """Return a 3x3 convolution of 8 to 16 channels on 32 x 48 pixels with ReLU, then a transposition."""
    onnx = pytest.importorskip("onnx")
    np = pytest.importorskip("numpy")
    helper, tensor = onnx.helper, onnx.TensorProto

    def constant(name: str, array: Any) -> Any:
        return onnx.numpy_helper.from_array(array, name)

    weights = [constant("w", np.ones((16, 8, 3, 3), np.float32))]
    nodes, data, weight = [], "x", "w"
    if quantized:
        weights = [
            constant("w8", np.ones((16, 8, 3, 3), np.int8)),
            constant("scale", np.array(0.1, np.float32)),
            constant("zero", np.array(0, np.int8)),
        ]
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
            helper.make_node("DequantizeLinear", ["w8", "scale", "zero"], ["wd"]),
        ]
        data, weight = "xd", "wd"
    nodes += [
        helper.make_node("Conv", [data, weight], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Transpose", ["r"], ["y"], perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", tensor.FLOAT, [1, 8, 32, 48])],
        [helper.make_tensor_value_info("y", tensor.FLOAT, [1, 32, 48, 16])],
        weights,
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


@pytest.mark.parametrize("quantized", [False, True])
def test_cost_of_a_graph_is_that_of_its_layers(quantized: bool) -> None:
    cost = graph_cost(network(quantized=quantized))
    pixels, weights = 32 * 48, 16 * 8 * 9
    assert [layer.operator for layer in cost.layers] == ["Conv", "Transpose"]
    assert cost.macs == pixels * weights
    conv = cost.layers[0]
    assert conv.is_int8 is quantized
    inputs, outputs = 8 * pixels + weights, 16 * pixels
    read = (inputs, outputs) if quantized else (0, inputs + outputs)
    assert (conv.int8_elements, conv.float_elements) == read
    assert cost.layers[1].float_elements == 2 * outputs
    assert cost.live_elements == 2 * outputs
    assert cost.weight_bytes == (weights + 5 if quantized else 4 * weights)


def test_graph_without_shapes_is_refused() -> None:
    with pytest.raises(BundleError):
        graph_cost(b"no graph")


@given(st.integers(1, 10**9), st.integers(1, 10**7), st.booleans())
def test_more_work_never_takes_less_time(macs: int, elements: int, is_int8: bool) -> None:
    small = LayerCost("a", "Conv", macs, is_int8, False, elements, elements)
    large = replace(small, macs=2 * macs, int8_elements=2 * elements)
    assert likely("jetson-orin-nano", small) <= likely("jetson-orin-nano", large)
    assert likely("jetson-orin-nano", small) < likely("jetson-orin-nano", small, MOVE)


def test_int8_helps_where_there_are_instructions_and_half_where_it_is_fast() -> None:
    floating = replace(CONV, is_int8=False)
    assert likely("jetson-orin-nano", CONV) < likely("jetson-orin-nano", floating)
    assert likely("jetson-nano", CONV) == likely("jetson-nano", floating)
    assert likely("jetson-orin-nano", MOVE) < likely("jetson-orin-nano", MOVE, precision="fp32")
    assert likely("gtx-1080-ti", MOVE) == likely("gtx-1080-ti", MOVE, precision="fp32")


def test_faster_devices_are_estimated_faster() -> None:
    layers = [CONV, MOVE] * 20
    times = [likely(name, *layers) for name in ("jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-thor")]
    assert times == sorted(times, reverse=True)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    graphs = {"tensorrt": network(quantized=True)}
    try:
        return write_bundle(tmp_path / "m.bmz", describe(graphs, metrics={}, fidelity={}), graphs)
    except BundleError as error:
        pytest.fail(str(error))


def call(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_commands_say_that_nothing_was_measured(bundle: Path) -> None:
    checked = call("check", bundle, "--target", "jetson-orin-nano", "--estimate")
    assert checked.exit_code == 0
    for words in ("Estimated, not measured: ", "factor of 2", "launches", "Left out: ", "Orin Nano 8 GB, 15 W"):
        assert words in checked.output
    assert checked.output.splitlines()[-1].startswith("Next")
    listed = call("targets", "--estimate", bundle)
    assert listed.output.startswith("Estimated, not measured")
    assert "jetson-orin-nano" in listed.output
    assert "x86" not in listed.output
    assert "jetson-tx2" not in listed.output
    document = json.loads(call("check", bundle, "--target", "ada", "--estimate", "--json").stdout)
    assert document["ok"]
    assert document["estimate"]["likely_ms"] > 0
    assert [row["target"] for row in json.loads(call("targets", "ada", "--estimate", bundle, "--json").stdout)] == [
        "ada"
    ]


def test_report_of_the_device_takes_the_place_of_the_estimate(bundle: Path, tmp_path: Path) -> None:
    """It must be of this very bundle, and by the route that would be estimated."""
    folder = tmp_path / "reports"
    folder.mkdir()
    digest = hashlib.sha256(bundle.read_bytes()).hexdigest()
    others = {"a": ("tensorrt-int8", "0" * 64), "b": ("cpu-int8", digest)}
    for name, (route, sha256) in others.items():
        write_report(folder / f"{name}.json", report_of(route, sha256))
    check = ("check", bundle, "--target", "jetson-orin-nano", "--estimate", "--reports", folder)
    assert "Estimated, not measured: " in call(*check).output
    write_report(folder / "c.json", report_of("tensorrt-int8", digest))
    checked, listed = call(*check), call("targets", "--estimate", bundle, "--reports", folder)
    for shown in (checked, listed):
        assert shown.exit_code == 0
        assert "Measured on Orin Nano, 2026-11-30, m.bmz" in shown.output
        assert "tensorrt-int8: 7.20 p50 ms" in shown.output
    assert "stimated" not in checked.output
    assert not any(line.startswith("jetson-orin-nano ") for line in listed.output.splitlines())
    assert any(line.startswith("ada ") for line in listed.output.splitlines())
    document = json.loads(call(*check, "--json").stdout)
    assert (document["estimate"], len(document["reports"])) == (None, 1)
    rows = json.loads(call("targets", "--estimate", bundle, "--reports", folder, "--json").stdout)
    assert [row["target"] for row in rows if row["reports"]] == ["jetson-orin-nano"]


def report_of(route: str, sha256: str) -> DeviceReport:
    """Return the report of an Orin Nano that measured a bundle by one route."""
    return DeviceReport(
        target="jetson-orin-nano",
        title="Jetson Orin Nano",
        created="2026-11-30T10:00:00+00:00",
        generator="blendmask-edge 0",
        subject=Subject(bundle="m.bmz", model="TINY", sha256=sha256),
        machine=this_machine(),
        gpu=Gpu(name="Orin Nano", sm="8.7", driver="12.6/540.3.0"),
        rows=[Row(route=route, part="measure", status="passed", metrics={"latency_p50_ms": 7.2})],
    )


def test_cpu_has_no_estimate(bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"no estimate for x86-64 CPU with VNNI.*blendmask bench"):
        estimate(bundle, "x86-vnni")
    for words in (["targets", "x86-vnni", "--estimate", bundle], ["targets", "jetson-tx2", "--estimate", bundle]):
        shown = call(*words)
        assert shown.exit_code == 0
        assert shown.output.startswith("There is no estimate of the latency for this route on ")
        assert "likely ms" not in shown.output
    assert estimate(bundle, "ada").likely_ms > 0


@pytest.mark.parametrize("target", [row for row in TABLE.targets if row.kind != "cpu"], ids=lambda row: row.name)
def test_every_gpu_has_rates(target: Any) -> None:
    rates = target.rates.value
    architecture = TABLE.architecture_of(target)
    assert (rates.int8_tops is None) == (architecture.int8.value == "none")
    assert rates.int8_tops is None or rates.int8_tops >= 1.9 * rates.float_tflops
