"""Quantizers and rounded convolutions put into a traced network, at the places that the placement names."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx, nn

from blendmask_quantize.quantization.placement import Placement, Point

MakeQuantizer = Callable[[Point], nn.Module]
"""From a rounded tensor to the module that rounds it."""

MakeConv = Callable[[nn.Conv2d, Point], nn.Module]
"""From a convolution, and the rounded tensor that it reads, to the module that stands in for it."""


def insert(
    network: fx.GraphModule, placement: Placement, make_conv: MakeConv, make_quantizer: MakeQuantizer
) -> fx.GraphModule:
    """Change `network` in place: replace the convolutions that the placement names, and round the tensors it names.

    Args:
        network: traced; its nodes are named as in the network that was placed.
        placement: from `place`.
        make_conv: called once a convolution, in graph order, before any quantizer is made.
        make_quantizer: called once a rounded tensor, in graph order.
    """
    nodes = {node.name: node for node in network.graph.nodes}
    points = {point.node: point for point in placement.points}
    for name in placement.convs:
        _replace(network, nodes[name], points, make_conv)
    for point in placement.points:
        _round(network, nodes[point.node], make_quantizer(point))
    network.graph.lint()
    network.recompile()
    return network.eval()


def _replace(network: fx.GraphModule, node: fx.Node, points: dict[str, Point], make_conv: MakeConv) -> None:
    conv = network.get_submodule(str(node.target))
    assert isinstance(conv, nn.Conv2d)
    parent, _, name = str(node.target).rpartition(".")
    network.get_submodule(parent).add_module(name, make_conv(conv, _rounded_source(node, points)))


def _rounded_source(node: fx.Node, points: dict[str, Point]) -> Point:
    """The rounded tensor that `node` reads, past the operators that rounding commutes with."""
    source = node.all_input_nodes[0]
    while source.name not in points:
        source = source.all_input_nodes[0]
    return points[source.name]


def _round(network: fx.GraphModule, node: fx.Node, quantizer: nn.Module) -> None:
    name = f"quantizer_{node.name}"
    network.add_submodule(name, quantizer)
    with network.graph.inserting_after(node):
        rounded = network.graph.call_module(name, (node,))
    node.replace_all_uses_with(rounded, delete_user_cb=lambda user: user is not rounded)
