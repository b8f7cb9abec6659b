"""A graph is read without the onnx package, and what is no graph is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendmask_edge import BundleError
from blendmask_edge.bundle.onnx_facts import read_onnx
from tests.sdk.devices.graphs import make_graph


def test_operators_opset_and_input_are_counted() -> None:
    facts = read_onnx(make_graph(["Relu", "GridSample", "Relu"], opset=16))
    assert facts.opset == 16
    assert dict(facts.operators) == {
        "Cast": 1,
        "QuantizeLinear": 1,
        "DequantizeLinear": 1,
        "Relu": 2,
        "GridSample": 1,
        "Input(uint8)": 1,
    }
    assert (facts.largest_top_k, facts.holds_half, facts.int32_dequantized) == (None, False, False)
    assert (facts.zero_points, facts.custom, facts.uint8_readers) == ({"int8"}, set(), {"Cast"})


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("constant_node", [True, False])
def test_k_is_found_however_it_is_stored(packed: bool, constant_node: bool) -> None:
    assert read_onnx(make_graph(top_k=3841, packed=packed, constant_node=constant_node)).largest_top_k == 3841


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "kind, zero, found",
    [("INT8", 0, {"int8"}), ("INT8", -3, {"int8", "nonzero"}), ("UINT8", 128, {"uint8", "nonzero"})],
)
def test_zero_points_are_found_however_they_are_stored(packed: bool, kind: str, zero: int, found: Any) -> None:
    assert read_onnx(make_graph(zero_point=kind, zero=zero, packed=packed)).zero_points == found


def test_half_weights_int32_biases_and_plugins_are_found() -> None:
    assert read_onnx(make_graph(half=True)).holds_half
    assert read_onnx(make_graph(int32_bias=True)).int32_dequantized
    assert read_onnx(make_graph(["EfficientNMS_TRT"], domain="com.example")).custom == {"EfficientNMS_TRT"}
    assert read_onnx(make_graph(first="Transpose")).uint8_readers == {"Transpose"}


@pytest.mark.parametrize("reduction, name", [("add", "ScatterND(reduction)"), ("none", "ScatterND")])
def test_scatter_that_reduces_has_a_name_of_its_own(reduction: str, name: str) -> None:
    assert read_onnx(make_graph(["ScatterND"], attributes={"reduction": reduction})).operators[name] == 1


@given(st.binary(max_size=200))
def test_bytes_that_are_no_graph_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="not a valid ONNX file"):
        read_onnx(data)


GRAPH = make_graph(["Relu"], top_k=5)


@given(st.integers(0, len(GRAPH) - 1), st.integers(0, 255), st.integers(0, len(GRAPH)))
def test_a_damaged_graph_is_read_or_refused(place: int, value: int, end: int) -> None:
    for data in (GRAPH[:place] + bytes([value]) + GRAPH[place + 1 :], GRAPH[:end]):
        with contextlib.suppress(BundleError):
            read_onnx(data)


def test_reading_agrees_with_the_onnx_package() -> None:
    onnx = pytest.importorskip("onnx")
    data = make_graph(["Relu", "Resize", "Relu"], top_k=9, int32_bias=True)
    nodes = onnx.load_from_string(data).graph.node
    found = {name: count for name, count in read_onnx(data).operators.items() if "(" not in name}
    assert sum(found.values()) == len(nodes)
    assert set(found) == {node.op_type for node in nodes}
