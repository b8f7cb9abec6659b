"""Work and memory traffic of the layers of a graph, from the shapes that its file states.

A runtime on a GPU fuses: elementwise operators that follow a convolution, and rounding, cost nothing of their own here;
operators that only rename a tensor cost nothing at all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Set, Tuple

from blendmask_edge.bundle.onnx_file import INT8, UINT8, Node, OnnxFile, read_onnx_file
from blendmask_edge.bundle.operators.bound import Bound, Call, constant
from blendmask_edge.bundle.operators.rules import RULES, work
from blendmask_edge.errors import BundleError

_RENAMES = {"Reshape", "Squeeze", "Unsqueeze", "Identity", "Constant", "Flatten", "Shape"}
_ROUNDS = {"QuantizeLinear", "DequantizeLinear"}
_FOLLOWS = {"Relu", "Clip", "Add", "Mul", "Sub", "Sigmoid"}
_SELECTS = {"Slice", "Gather"}
_PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
_FAILURES = (ValueError, TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError)


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer.

    Attributes:
        name: its first output.
        operator: ONNX operator.
        macs: multiply-accumulates; 0 for layers that only move or combine elements.
        is_int8: whether it multiplies INT8 by INT8.
        is_depthwise: whether each output channel reads one input channel.
        int8_elements: elements read and written as INT8.
        float_elements: elements read and written in the precision of the layers that are not quantized.
    """

    name: str
    operator: str
    macs: int
    is_int8: bool
    is_depthwise: bool
    int8_elements: int
    float_elements: int


@dataclass(frozen=True)
class GraphCost:
    """Cost of a graph.

    Attributes:
        nodes: operators in the file.
        layers: layers that take time of their own, in the order in which they run.
        weight_bytes: constants of the file.
        live_elements: largest number of elements of intermediate tensors that exist at once.
    """

    nodes: int
    layers: Tuple[LayerCost, ...]
    weight_bytes: int
    live_elements: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)


def graph_cost(data: bytes) -> GraphCost:
    """Return the cost of an ONNX file whose shapes follow from it.

    Raises:
        BundleError: the bytes are not an ONNX file, or a shape does not follow.
    """
    graph = read_onnx_file(data)
    shapes = _Shapes(graph)
    fused = _fused(graph)
    layers = [
        _layer(node, graph, shapes, fused)
        for node in graph.nodes
        if node.outputs[0] not in fused.hidden
        and node.outputs[0] in shapes.varying
        and node.operator not in _RENAMES | _ROUNDS
    ]
    weights = sum(len(tensor.raw) if tensor.raw is not None else 4 * tensor.count for tensor in graph.constants)
    return GraphCost(len(graph.nodes), tuple(layers), weights, shapes.live_elements)


class _Shapes:
    """Bounds of all tensors, the work of each node, and which tensors depend on the image."""

    def __init__(self, graph: OnnxFile) -> None:
        self.bounds: Dict[str, Bound] = {tensor.name: constant(tensor) for tensor in graph.constants}
        self.work: Dict[str, int] = {}
        for entry in graph.inputs:
            self.bounds[entry.name] = Bound(tuple(size or 0 for size in entry.shape or ()))
        self.varying: Set[str] = {entry.name for entry in graph.inputs}
        for node in graph.nodes:
            call = Call([self.bounds[name] if name else None for name in node.inputs], node.attributes)
            try:
                result = RULES[node.operator](call)
                self.work[node.outputs[0]] = work(node.operator, call, result)
            except _FAILURES as error:
                raise BundleError(
                    f"The shape of {node.outputs[0]!r} does not follow from the graph: {error}"
                ) from error
            self.bounds.update(dict.fromkeys(node.outputs, result))
            if not self.varying.isdisjoint(node.inputs):
                self.varying.update(node.outputs)
        self.live_elements = self._most_at_once(graph)

    def _most_at_once(self, graph: OnnxFile) -> int:
        """Return the most elements at once; what only renames or rounds a tensor shares its memory."""
        roots = {entry.name: entry.name for entry in graph.inputs}
        last: Dict[str, int] = {}
        for number, node in enumerate(graph.nodes):
            is_same = node.operator in _RENAMES | _ROUNDS and node.inputs and node.inputs[0] in roots
            for name in node.outputs:
                roots[name] = roots[node.inputs[0]] if is_same else name
            last.update((roots[name], number) for name in node.inputs if name in roots)
        last.update((roots[output.name], len(graph.nodes)) for output in graph.outputs)
        live = {entry.name: self.bounds[entry.name].count for entry in graph.inputs}
        most = 0
        for number, node in enumerate(graph.nodes):
            own = [name for name in node.outputs if roots[name] == name and name in self.varying]
            live.update((name, self.bounds[name].count) for name in own)
            most = max(most, sum(live.values()))
            live = {name: count for name, count in live.items() if last.get(name, -1) > number}
        return most


@dataclass(frozen=True)
class _Fusion:
    """hidden: outputs of nodes that run inside another.   ends: last output of the layer that starts with a node."""

    makers: Mapping[str, Node]
    readers: Mapping[str, List[Node]]
    hidden: Set[str]
    ends: Mapping[str, str]


def _fused(graph: OnnxFile) -> _Fusion:
    makers = {name: node for node in graph.nodes for name in node.outputs}
    readers: Dict[str, List[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    hidden: Set[str] = set()
    ends: Dict[str, str] = {}
    for node in graph.nodes:
        if node.operator not in _PRODUCTS:
            continue
        end = node.outputs[0]
        following = _only_follower(readers, end, hidden)
        while following is not None:
            end = following.outputs[0]
            hidden.add(end)
            following = _only_follower(readers, end, hidden)
        ends[node.outputs[0]] = end
    return _Fusion(makers, readers, hidden, ends)


def _only_follower(readers: Mapping[str, List[Node]], name: str, hidden: Set[str]) -> Optional[Node]:
    nodes = readers.get(name, [])
    if len(nodes) != 1 or nodes[0].operator not in _FOLLOWS or nodes[0].outputs[0] in hidden:
        return None
    return nodes[0]


def _layer(node: Node, graph: OnnxFile, shapes: _Shapes, fusion: _Fusion) -> LayerCost:
    output = node.outputs[0]
    end = fusion.ends.get(output, output)
    is_int8 = node.operator in _PRODUCTS and all(_is_rounded(name, fusion) for name in node.inputs[:2])
    counts: Counter[bool] = Counter()
    pixels = {entry.name for entry in graph.inputs if entry.dtype in (INT8, UINT8)}
    for name in filter(None, node.inputs):
        elements = shapes.bounds[name].count
        if node.operator in _SELECTS:  # they read what they return
            elements = min(elements, shapes.bounds[output].count)
        counts[_is_rounded(name, fusion) or name in pixels] += elements
    counts[_is_rounded_after(end, fusion)] += shapes.bounds[end].count
    macs = shapes.work[output] if node.operator in _PRODUCTS else 0
    return LayerCost(output, node.operator, macs, is_int8, _is_depthwise(node, shapes), counts[True], counts[False])


def _is_rounded(name: str, fusion: _Fusion) -> bool:
    maker = fusion.makers.get(name)
    return maker is not None and maker.operator == "DequantizeLinear"


def _is_rounded_after(name: str, fusion: _Fusion) -> bool:
    nodes = fusion.readers.get(name, [])
    return bool(nodes) and all(node.operator == "QuantizeLinear" for node in nodes)


def _is_depthwise(node: Node, shapes: _Shapes) -> bool:
    if node.operator != "Conv":
        return False
    weight = shapes.bounds[node.inputs[1]].shape
    return len(weight) == 4 and weight[1] == 1 and node.attributes.get("group", 1) == weight[0]
