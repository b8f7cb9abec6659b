"""Where quantizers stand: the one answer that calibration, training with quantization and export share.

Rules and their sources: NVIDIA's "explicit quantization" for `tensorrt` (inputs of weighted layers, and the skip branch
of a residual sum), complete groups of dequantize, operator, quantize for `cpu` (ONNX Runtime fuses nothing else).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import fx

from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.quantization.ignored import is_ignored
from blendmask_quantize.quantization.nodes import fused_activation, kind, tensor_inputs

VARIANTS = ("cpu", "tensorrt")
COMMUTING = ("nearest", "max_pool")
"""Rounding before these operators and after them is the same, so they never need a scale of their own."""
# On the CPU these compute with integers between rounded tensors, as convolutions do.
_ARITHMETIC = ("add", "bilinear")
# These never leave the range of what they read, so they share its scale, which spares a change of scale in sums.
_WITHIN_RANGE = (*COMMUTING, "bilinear")


@dataclass(frozen=True)
class Point:
    """A tensor that is rounded to 8 bits.

    Attributes:
        node: name of the node whose result it is.
        range_of: name of the node whose calibrated range it uses; another one where both share a scale.
        signed: whether it can be negative.
    """

    node: str
    range_of: str
    signed: bool


@dataclass(frozen=True)
class Placement:
    """Quantizers of one variant.

    Attributes:
        points: rounded tensors, in graph order.
        convs: names of the nodes of convolutions with 8-bit weights.
    """

    points: tuple[Point, ...]
    convs: tuple[str, ...]


@dataclass(frozen=True)
class _Graph:
    """A traced network as placement sees it.

    Attributes:
        kinds: kind of each node, in graph order.
        results: of convolutions and sums, the tensor that leaves the kernel: past the activation fused behind them.
    """

    kinds: dict[fx.Node, str]
    results: dict[fx.Node, fx.Node]

    @classmethod
    def of(cls, traced: fx.GraphModule) -> _Graph:
        """Look at each node of a network once."""
        kinds = {node: kind(traced, node) for node in traced.graph.nodes}
        kernels = [node for node, what in kinds.items() if what in ("conv", "add")]
        return cls(kinds, {node: fused_activation(traced, node) or node for node in kernels})


def place(traced: fx.GraphModule, variant: str) -> Placement:
    """Decide what is rounded in `variant`, "cpu" or "tensorrt"."""
    graph = _Graph.of(traced)
    convs = [node for node in graph.kinds if _is_quantized_conv(graph, node)]
    if variant == "cpu":
        between = [node for node in graph.kinds if _is_integer_arithmetic(graph, node)]
        inner = [node for node in convs if not _is_predictor(graph, node)]
        chosen = set(_inputs_of(graph, convs + between)) | {graph.results.get(node, node) for node in inner + between}
        chosen |= set(_passing(graph, chosen))
    else:
        chosen = set(_inputs_of(graph, convs)) | set(_skip_branches(graph, convs))
    points = (_point(graph, node) for node in graph.kinds if node in chosen)
    return Placement(tuple(points), tuple(node.name for node in convs))


def rounding_of(traced: fx.GraphModule, node: fx.Node, points: Mapping[str, Point]) -> Point | None:
    """The rounding that reaches the result of `node`, its own or one past operators that it commutes with.

    Args:
        traced: the network.
        node: whose result something reads.
        points: of a placement, by node name.
    """
    while node.name not in points:
        if kind(traced, node) not in COMMUTING:
            return None
        node = tensor_inputs(node)[0]
    return points[node.name]


def calibration_points(traced: fx.GraphModule) -> tuple[Point, ...]:
    """Every tensor whose range some variant needs, once each."""
    signed = {point.range_of: point.signed for variant in VARIANTS for point in place(traced, variant).points}
    return tuple(Point(name, name, signed[name]) for name in signed)


def _is_quantized_conv(graph: _Graph, node: fx.Node) -> bool:
    """Every convolution but the ignored ones and the predictors of boxes, whose rounding would move the boxes.

    The results of the other predictors are not rounded, as nothing computes with their integers.
    """
    if graph.kinds[node] != "conv" or is_ignored(node):
        return False
    return not _is_predictor(graph, node) or any(_is_of_scores_or_bases(user, node) for user in node.users)


def _is_predictor(graph: _Graph, node: fx.Node) -> bool:
    """Whether only the network's output reads a convolution."""
    return all(graph.kinds[user] == "output" for user in graph.results.get(node, node).users)


def _is_of_scores_or_bases(results: fx.Node, node: fx.Node) -> bool:
    """Whether a node is class logits, centerness or bases among the results of a network."""
    if results.target is not Predictions:
        return False
    logits, _, centerness, _, bases, *_ = results.args
    return node in (*logits, *centerness, bases)  # type: ignore[misc]


def _is_integer_arithmetic(graph: _Graph, node: fx.Node) -> bool:
    """Every sum and resize but those whose operands ignored convolutions alone make: their range is not rounded."""
    if graph.kinds[node] not in _ARITHMETIC:
        return False
    makers = _makers(graph, node)
    return not makers or not all(map(is_ignored, makers))


def _makers(graph: _Graph, node: fx.Node) -> set[fx.Node]:
    """The convolutions that `node` computes from, with no other convolution in between."""
    makers, seen, waiting = set(), {node}, tensor_inputs(node)
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        if graph.kinds[source] == "conv":
            makers.add(source)
        else:
            waiting += tensor_inputs(source)
    return makers


def _source(graph: _Graph, node: fx.Node, passed: tuple[str, ...] = COMMUTING) -> fx.Node:
    """The tensor before the operators of the kinds `passed` that lead to `node`."""
    while graph.kinds[node] in passed:
        node = tensor_inputs(node)[0]
    return node


def _inputs_of(graph: _Graph, nodes: Iterable[fx.Node]) -> Iterator[fx.Node]:
    for node in nodes:
        yield from (_source(graph, operand) for operand in tensor_inputs(node))


def _skip_branches(graph: _Graph, convs: list[fx.Node]) -> Iterator[fx.Node]:
    """Of each sum with a convolution, the other operand, so that convolution, sum and activation become one kernel.

    A convolution that something else reads too cannot become part of the sum's kernel.
    """
    for node in graph.kinds:
        if graph.kinds[node] != "add":
            continue
        operands = tensor_inputs(node)
        fused = next((operand for operand in operands if operand in convs and len(operand.users) == 1), None)
        if fused is not None:
            yield from (_source(graph, operand) for operand in operands if operand is not fused)


def _passing(graph: _Graph, chosen: set[fx.Node]) -> Iterator[fx.Node]:
    """Results of operators that a rounded tensor passes through: rounded again, they only complete the group."""
    for node in graph.kinds:
        if graph.kinds[node] in COMMUTING and _source(graph, node) in chosen:
            yield node


def _point(graph: _Graph, node: fx.Node) -> Point:
    return Point(node.name, _source(graph, node, _WITHIN_RANGE).name, _is_signed(graph, node))


def _is_signed(graph: _Graph, node: fx.Node) -> bool:
    what = graph.kinds[node]
    if what in ("add", "concat", *_WITHIN_RANGE):
        return any(_is_signed(graph, operand) for operand in tensor_inputs(node))
    return what != "relu"
