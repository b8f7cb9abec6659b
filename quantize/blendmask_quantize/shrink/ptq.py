"""Post-training quantisation: observe ranges once, render every flavour from them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from blendmask_calibration.ranges import Range, RangeCollector, estimator_named
from blendmask_quantize.shrink.placement import Placement, calibration_points, place
from blendmask_quantize.shrink.quantizer import ActivationQuantizer, Grid, IntegerConv2d, activation_grid, weight_scales

OnImage = Callable[[], None]


class _Observer(fx.Interpreter):
    """Runs the graph and hands the chosen results to a collector."""

    def __init__(self, traced: fx.GraphModule, names: set[str], collector: RangeCollector) -> None:
        super().__init__(traced)
        self.names, self.collector = names, collector

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.names:
            self.collector.observe(n.name, result.numpy())
        return result


@torch.no_grad()
def observe_ranges(
    traced: fx.GraphModule, inputs: Iterable[Tensor], estimator: str, on_image: OnImage | None = None
) -> dict[str, Range]:
    """Range of every tensor that some flavour rounds, by node name.

    Args:
        traced: from `trace_network`.
        inputs: normalised pictures (1, 3, H, W).
        estimator: name of a range estimator of `blendmask_calibration`.
        on_image: called after each picture.
    """
    collector = RangeCollector()
    observer = _Observer(traced, {point.node for point in calibration_points(traced)}, collector)
    for x in inputs:
        observer.run(x)
        if on_image is not None:
            on_image()
    return collector.ranges(estimator_named(estimator))


def render(traced: fx.GraphModule, ranges: Mapping[str, Range], flavour: str) -> fx.GraphModule:
    """A copy of the network with the quantisers and 8-bit weights of `flavour` in place.

    Args:
        traced: from `trace_network`.
        ranges: from `observe_ranges`.
        flavour: "cpu" or "tensorrt".
    """
    placement = place(traced, flavour)
    rendered = copy.deepcopy(traced)
    nodes = {node.name: node for node in rendered.graph.nodes}
    grids = _grids(placement, ranges, flavour)
    for name in placement.convs:
        _make_integer(rendered, nodes[name], grids if flavour == "cpu" else None)
    for point in placement.points:
        _insert(rendered, nodes[point.node], grids[point.node])
    rendered.graph.lint()
    rendered.recompile()
    return rendered.eval()


def _grids(placement: Placement, ranges: Mapping[str, Range], flavour: str) -> dict[str, Grid]:
    grids = {}
    for point in placement.points:
        found = ranges[point.range_of]
        low = -found.high if point.signed else 0.0
        grids[point.node] = activation_grid(low, found.high, flavour)
    return grids


def _make_integer(rendered: fx.GraphModule, node: fx.Node, grids: Mapping[str, Grid] | None) -> None:
    conv = rendered.get_submodule(str(node.target))
    source = node.args[0]
    input_scale = grids[_rounded_source(source, grids)].scale if grids is not None else None  # type: ignore[arg-type]
    parent, _, name = str(node.target).rpartition(".")
    module = IntegerConv2d(conv, weight_scales(conv.weight), input_scale)  # type: ignore[arg-type]
    rendered.get_submodule(parent).add_module(name, module)


def _rounded_source(node: fx.Node, grids: Mapping[str, Grid]) -> str:
    while node.name not in grids:
        node = node.all_input_nodes[0]
    return node.name


def _insert(rendered: fx.GraphModule, node: fx.Node, grid: Grid) -> None:
    name = f"quantizer_{node.name}"
    rendered.add_submodule(name, ActivationQuantizer(grid))
    with rendered.graph.inserting_after(node):
        quantizer = rendered.graph.call_module(name, (node,))
    node.replace_all_uses_with(quantizer, delete_user_cb=lambda user: user is not quantizer)
