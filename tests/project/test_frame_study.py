"""The study of a frame on a network of a few thousand weights: each part has its share, and a missing peer says so."""

from __future__ import annotations

import argparse

import pytest

from bench.lib.frame_parts import PARTS, part_times, parts_of
from bench.lib.sessions import RUNTIMES
from bench.lib.timed_networks import FLOAT, INT8, TimedNetwork
from bench.peers import yolo
from bench.peers.packages import MissingPeerError
from bench.studies import frame
from blendmask_edge.bundle.tensors import OUTPUT_NAMES
from tests.project.conftest import IMAGE

pytest.importorskip("openvino")

pytestmark = pytest.mark.slow
IN_THE_GRAPH = set(PARTS) - {"depthwise", "float_convolutions"}
"""The tiny network has no depthwise convolution, and all its convolutions are quantized."""


def test_each_operator_of_the_graph_has_a_part(network: TimedNetwork) -> None:
    graph = network.graphs[INT8].graph
    parts = parts_of(network.graphs[INT8])
    assert set(parts.values()) == IN_THE_GRAPH
    makers = {output: node for node in graph.node for output in node.output}
    assert parts[makers[OUTPUT_NAMES[3]].name] == "masks"
    kinds = {node.op_type for node in graph.node if parts[node.name] == "suppression"}
    assert {"MatMul", "Min"} <= kinds
    assert "TopK" not in kinds
    assert {node.op_type for node in graph.node if parts[node.name] == "int8_convolutions"} == {"Conv"}
    assert "float_convolutions" in parts_of(network.graphs[FLOAT]).values()


def test_layers_count_for_the_operator_that_they_are_made_of() -> None:
    parts = {"node_conv2d_7": "int8_convolutions", "node_linear": "coefficients", "node_add": "other"}
    layers = {
        ("node_conv2d_7/WithoutBiases", "Convolution"): 4.0, ("conv2d_7_nchwc", "Conv"): 2.0,
        ("fused node_linear", "FusedGemm"): 1.0, ("node_conv2d_7/WithoutBiases_acdb_abcd", "Reorder"): 0.5,
        ("Multiply_24853", "PowerStatic"): 0.25,
    }  # fmt: skip
    times = {part: spent for part, spent in part_times(layers, parts).items() if spent}
    assert times == {"int8_convolutions": 6.0, "coefficients": 1.0, "layout": 0.5, "other": 0.25}


def test_rows_have_all_parts_and_a_peer_that_is_not_installed_is_named(
    network: TimedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise MissingPeerError(f"{name} cannot be imported (planted). Type `make peers`")

    monkeypatch.setattr(yolo, "package", missing)
    rows = frame.frame_rows(network, [IMAGE], argparse.Namespace(threads=1, rounds=1))
    ours, peers = rows[: len(RUNTIMES)], rows[len(RUNTIMES) :]
    assert [row["name"] for row in ours] == [f"shipped/{runtime}/int8" for runtime in RUNTIMES]
    for row in ours:
        assert {f"{part}_ms" for part in PARTS} < row.keys()
        assert all(row[f"{part}_ms"] > 0 for part in IN_THE_GRAPH)
        assert "peer_ratio" not in row
    assert [row["name"] for row in peers] == [f"yolo26n-seg/openvino/{precision}" for precision in yolo.PRECISIONS]
    assert all("make peers" in row["error"] and len(row) == 2 for row in peers)


def test_a_frame_is_compared_with_the_quickest_precision_of_the_peer(
    network: TimedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    milliseconds = {"f32": 3000.0, "bf16": 1000.0, "int8": 2000.0}
    monkeypatch.setattr(frame, "open_peer", lambda precision, *_: lambda: milliseconds[precision])
    rows = frame.frame_rows(network, [IMAGE], argparse.Namespace(threads=1, rounds=1))
    for row in rows[: len(RUNTIMES)]:
        assert row["peer_ratio"] == pytest.approx(row["latency_p50_ms"] / 1000, rel=1e-3)
    assert [row["latency_p50_ms"] for row in rows[len(RUNTIMES) :]] == list(milliseconds.values())
