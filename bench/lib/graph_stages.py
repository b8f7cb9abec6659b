"""Cut a deployable graph into stages; each is a graph that can be timed on the output of the previous one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from onnx import NodeProto, helper

from blendmask_edge.bundle.tensors import OUTPUT_NAMES

STAGES = ("network", "selection", "coefficients", "masks")
"""Normalization and convolutions; best pairs and suppression; the vectors of the kept rows; pooling and blending."""
_BESIDE_CONVS = ("Relu", "Clip", "QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: one of `STAGES`.
        model: its graph.
        inputs, outputs: names of the tensors that it takes and gives.
    """

    name: str
    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def cut(model: onnx.ModelProto) -> list[Stage]:
    """The stages of a deployable graph with coefficients at kept locations, in the order that they run in."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    known = {value.name: value for value in (*inferred.value_info, *inferred.input, *inferred.output)}
    members = stage_members(model.graph)
    return [_stage(model, name, members[name], known) for name in STAGES if members[name]]


def stage_members(graph: onnx.GraphProto) -> dict[str, set[str]]:
    """First outputs of the nodes of each stage: what a stage needs and none before it has."""
    network = before(graph, [name for node in graph.node if node.op_type == "Conv" for name in node.output])
    network |= {n.output[0] for n in graph.node if n.op_type in _BESIDE_CONVS and _all_within(graph, n, network)}
    selection = before(graph, OUTPUT_NAMES[:3]) - network
    vectors = before(graph, [name for node in graph.node if node.op_type == "Gemm" for name in node.output])
    vectors -= network | selection
    masks = {node.output[0] for node in graph.node} - network - selection - vectors
    return dict(zip(STAGES, (network, selection, vectors, masks), strict=True))


def before(graph: onnx.GraphProto, names: Iterable[str]) -> set[str]:
    """First outputs of the nodes that the tensors are computed by."""
    makers = {output: node for node in graph.node for output in node.output}
    reached: set[str] = set()
    waiting = list(names)
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is not None and maker.output[0] not in reached:
            reached.add(maker.output[0])
            waiting += maker.input
    return reached


def _all_within(graph: onnx.GraphProto, node: NodeProto, members: set[str]) -> bool:
    constants = {tensor.name for tensor in graph.initializer}
    return all(name in constants or name in members for name in node.input)


def _stage(model: onnx.ModelProto, name: str, members: set[str], known: Mapping[str, onnx.ValueInfoProto]) -> Stage:
    nodes = [node for node in model.graph.node if node.output[0] in members]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {output for node in nodes for output in node.output}
    read = {given for node in nodes for given in node.input if given} - made
    read_elsewhere = {given for node in model.graph.node if node.output[0] not in members for given in node.input}
    given = sorted(read - set(constants))
    results = sorted(made & (read_elsewhere | {value.name for value in model.graph.output}))
    graph = helper.make_graph(
        nodes, name, [known[value] for value in given], [known[value] for value in results],
        [constants[value] for value in sorted(read & set(constants))],
    )  # fmt: skip
    whole = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return Stage(name, whole, tuple(given), tuple(results))
