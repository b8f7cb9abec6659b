"""Which part of a frame each layer of a runtime belongs to, from the operators of the deployable graph that it runs."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

import onnx
from onnx import NodeProto

from bench.lib.graph_stages import before, stage_members
from bench.lib.sessions import Layers

PARTS = (
    "int8_convolutions", "depthwise", "float_convolutions", "selection", "suppression", "coefficients", "masks",
    "layout", "other",
)  # fmt: skip
"""Convolutions of the network by kind; best pairs and their boxes; matrix of overlaps and rounds; vectors of the kept
rows; pooling and blending; casts, changes of layout, and quantizing; sums and resizing."""
_LAYOUT = (
    "Cast", "Convert", "Transpose", "Reshape", "Reorder", "ReorderInput", "ReorderOutput", "QuantizeLinear",
    "DequantizeLinear",
)  # fmt: skip


def parts_of(model: onnx.ModelProto) -> dict[str, str]:
    """The part of each node of a deployable graph, by node name."""
    stages, suppression = stage_members(model.graph), _suppression(model.graph)
    rounded = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    parts = {}
    for node in model.graph.node:
        stage = next(name for name, outputs in stages.items() if node.output[0] in outputs)
        if stage == "network":
            parts[node.name] = _network_part(node, rounded)
        else:
            parts[node.name] = "suppression" if node.output[0] in suppression else stage
    return parts


def part_times(layers: Layers, parts: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds of each part.

    Args:
        layers: from `layer_times`. Layers that a runtime adds count as layout or other.
        parts: from `parts_of`.
    """
    times = dict.fromkeys(PARTS, 0.0)
    for (name, kind), milliseconds in layers.items():
        times[_part(name, kind, parts)] += milliseconds
    return times


def _suppression(graph: onnx.GraphProto) -> set[str]:
    """First outputs of what is computed from the boxes of the candidates for the last sort."""
    last = [node for node in graph.node if node.op_type == "TopK"][-1]
    needed, reached = before(graph, last.input[:1]), set()
    for node in graph.node:
        is_start = node.op_type == "Gemm" and node.output[0] in needed
        if is_start or any(name in reached for name in node.input):
            reached.update(node.output)
    return reached & needed


def _network_part(node: NodeProto, rounded: set[str]) -> str:
    if node.op_type != "Conv":
        return "layout" if node.op_type in _LAYOUT else "other"
    if node.input[1] not in rounded:
        return "float_convolutions"
    groups = next((entry.i for entry in node.attribute if entry.name == "group"), 1)
    return "depthwise" if groups > 1 else "int8_convolutions"


def _part(name: str, kind: str, parts: Mapping[str, str]) -> str:
    node = node_of(name, kind, parts)
    if node is not None:
        return parts[node]
    return "layout" if kind in _LAYOUT else "other"


def node_of(name: str, kind: str, nodes: Container[str]) -> str | None:
    """The node of a graph that a layer of a runtime starts with; None where the runtime has added the layer.

    Runtimes add to the name of a node behind it, and ONNX Runtime drops `node_` in places.

    Args:
        name, kind: of the layer, from `layer_times`.
        nodes: names of the nodes.
    """
    text = re.sub("^fused ", "", name).partition("/")[0]
    while text and kind not in ("Reorder", "ReorderInput", "ReorderOutput"):
        for known in (text, f"node_{text}"):
            if known in nodes:
                return known
        text = text.rpartition("_")[0]
    return None
