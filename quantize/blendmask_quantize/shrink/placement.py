"""Where quantisers stand: the one answer that calibration, training with quantisation and export share.

Rules and their sources: NVIDIA's "explicit quantization" for `tensorrt` (inputs of weighted layers, and the skip branch
of a residual sum), complete groups of dequantise, operator, quantise for `cpu` (ONNX Runtime fuses nothing else).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx

from blendmask_quantize.shrink.graph import kind, tensor_inputs

FLAVOURS = ("cpu", "tensorrt")
_COMMUTING = ("nearest", "max_pool")
_FLOAT_CONVS = ("cls_logits", "bbox_pred", "ctrness")
_BASES_PREFIX = "basis_module.tower."


@dataclass(frozen=True)
class Point:
    """A tensor that is rounded to 8 bits.

    Attributes:
        node: name of the node whose result it is.
        range_of: name of the node whose calibrated range it uses; another one where both must share a scale.
        signed: whether it can be negative.
    """

    node: str
    range_of: str
    signed: bool


@dataclass(frozen=True)
class Placement:
    """Quantisers of one flavour.

    Attributes:
        points: rounded tensors, in graph order.
        convs: names of the nodes of convolutions with 8-bit weights.
    """

    points: tuple[Point, ...]
    convs: tuple[str, ...]


def place(traced: fx.GraphModule, flavour: str) -> Placement:
    """Decide what is rounded in `flavour`, "cpu" or "tensorrt"."""
    convs = [node for node in traced.graph.nodes if _is_quantised_conv(traced, node)]
    chosen = set(_inputs_of(traced, convs)) | set(_skip_branches(traced, convs))
    if flavour == "cpu":
        chosen |= set(_complete_groups(traced, convs))
    ordered = [node for node in traced.graph.nodes if node in chosen]
    points = tuple(Point(n.name, _range_source(traced, n, chosen).name, _is_signed(traced, n)) for n in ordered)
    return Placement(points, tuple(node.name for node in convs))


def calibration_points(traced: fx.GraphModule) -> tuple[Point, ...]:
    """Every tensor whose range some flavour needs, once each."""
    points = {}
    for flavour in FLAVOURS:
        for point in place(traced, flavour).points:
            if point.node == point.range_of:
                points[point.node] = point
    return tuple(points.values())


def _is_quantised_conv(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Every convolution but the predictors, whose outputs no activation follows."""
    if kind(traced, node) != "conv":
        return False
    name = str(node.target)
    last_bases = name.startswith(_BASES_PREFIX) and name[len(_BASES_PREFIX) :].isdigit()
    return not last_bases and not any(part in name for part in _FLOAT_CONVS)


def _result(traced: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The tensor that leaves the kernel of `node`: past the activation fused behind it."""
    users = list(node.users)
    fused = len(users) == 1 and kind(traced, node) in ("conv", "add") and kind(traced, users[0]) == "relu"
    return users[0] if fused else node


def _source(traced: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The tensor before operators that quantisation passes through unchanged."""
    while kind(traced, node) in _COMMUTING:
        node = tensor_inputs(node)[0]
    return node


def _inputs_of(traced: fx.GraphModule, convs: list[fx.Node]) -> Iterator[fx.Node]:
    for conv in convs:
        yield _source(traced, tensor_inputs(conv)[0])


def _skip_branches(traced: fx.GraphModule, convs: list[fx.Node]) -> Iterator[fx.Node]:
    """Of each sum with a convolution, the other operand, so that convolution, sum and activation become one kernel."""
    for node in traced.graph.nodes:
        if kind(traced, node) != "add":
            continue
        operands = tensor_inputs(node)
        fused = next((operand for operand in operands if operand in convs), None)
        if fused is not None:
            yield from (_source(traced, operand) for operand in operands if operand is not fused)


def _complete_groups(traced: fx.GraphModule, convs: list[fx.Node]) -> Iterator[fx.Node]:
    """Results of integer convolutions, and of sums and bilinear resizing between rounded tensors."""
    for node in traced.graph.nodes:
        if node in convs or kind(traced, node) == "add":
            yield _result(traced, node)
        elif kind(traced, node) == "bilinear":
            yield node


def _range_source(traced: fx.GraphModule, node: fx.Node, chosen: set[fx.Node]) -> fx.Node:
    """Bilinear resizing leaves the range: the result shares its operand's scale."""
    if kind(traced, node) == "bilinear" and tensor_inputs(node)[0] in chosen:
        return tensor_inputs(node)[0]
    return node


def _is_signed(traced: fx.GraphModule, node: fx.Node) -> bool:
    what = kind(traced, node)
    if what == "relu":
        return False
    if what in ("add", "bilinear", *_COMMUTING):
        return any(_is_signed(traced, operand) for operand in tensor_inputs(node))
    return True
