"""Published times of networks on a device, beside what the roofline estimates for them."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import onnx
import onnxruntime as ort
import torch

from blendmask_edge.bundle.graph_cost import GraphCost, LayerCost, graph_cost
from blendmask_edge.devices.roofline import estimate_graph
from blendmask_edge.devices.table import Rates, load_table
from blendmask_edge.hardware.facts import Fact

DEVICE = "jetson-orin-nano"
RATES = Fact(
    Rates(device="Orin Nano Super, 25 W", int8_tops=33, float_tflops=17, bandwidth_gb_s=102, launch_us=15),
    "peak rates: general knowledge of NVIDIA's data sheets, dense",
    "unverified",
)
PUBLISHED_MS = {"yolo11n": 3.91, "yolo11s": 5.25, "yolo11m": 9.58, "yolo11l": 12.37, "yolo11x": 20.72}
"""INT8 by TensorRT, 640 x 640, batch 1, from the documentation of ultralytics."""


def published_rows() -> Iterator[dict[str, Any]]:
    """A row for each network with a published time; none where ultralytics is not installed."""
    table = load_table()
    device = msgspec.structs.replace(table.find(DEVICE), rates=RATES)
    for name, published in PUBLISHED_MS.items():
        graph = _graph(name)
        if graph is None:
            return
        estimate = estimate_graph(in_int8(graph_cost(graph)), device, "int8", table)
        assert estimate is not None
        yield {
            "name": f"published/{name}",
            "published_ms": published,
            "estimated_ms": round(estimate.likely_ms, 2),
            "estimated_best_ms": round(estimate.best_ms, 2),
            "estimated_worst_ms": round(estimate.worst_ms, 2),
            "factor": round(max(estimate.likely_ms / published, published / estimate.likely_ms), 3),
            "passed": int(estimate.best_ms <= published <= estimate.worst_ms),
        }


def in_int8(cost: GraphCost) -> GraphCost:
    """The cost of a float graph if its convolutions were quantized, with what they read and write."""
    return replace(cost, layers=tuple(map(_quantized, cost.layers)))


def _quantized(layer: LayerCost) -> LayerCost:
    if layer.operator != "Conv":
        return layer
    return replace(layer, is_int8=True, int8_elements=layer.int8_elements + layer.float_elements, float_elements=0)


def _graph(name: str) -> bytes | None:
    """The network with random weights as its exporter gives it; None without ultralytics."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_OFFLINE", "true")
    try:
        ultralytics = importlib.import_module("ultralytics")
    except ImportError:
        return None
    network = ultralytics.YOLO(f"{name}.yaml").model.float().eval().fuse(verbose=False)
    for module in network.modules():
        if hasattr(module, "export"):
            module.export, module.format, module.dynamic = True, "onnx", False
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        torch.onnx.export(network, (torch.zeros(1, 3, 640, 640),), file, opset_version=17, dynamo=False)
        return with_relu(folded(file.read_bytes()))


def folded(graph: bytes) -> bytes:
    """A graph with its constants computed, so that all shapes follow from it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return Path(options.optimized_model_filepath).read_bytes()


def with_relu(graph: bytes) -> bytes:
    """A graph with ReLU in place of each SiLU, which TensorRT fuses into a convolution just so."""
    model = onnx.load_from_string(graph)
    sigmoids = {node.output[0]: node for node in model.graph.node if node.op_type == "Sigmoid"}
    replaced = set()
    for node in model.graph.node:
        gate = next((name for name in node.input if name in sigmoids), None) if node.op_type == "Mul" else None
        if gate is not None and sigmoids[gate].input[0] in node.input:
            replaced.add(gate)
            node.op_type, node.input[:] = "Relu", [sigmoids[gate].input[0]]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node
            if node.output[0] not in replaced]  # fmt: skip
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return bytes(model.SerializeToString())
