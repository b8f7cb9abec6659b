"""Runs of a network in which some layers alone are quantized; what they do not change is not computed again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor, fx, nn

from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.quantization.ignored import ignoring
from blendmask_quantize.quantization.nodes import kind
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.quantizer import IntegerConv2d


def quantized_only(calibrated: Calibrated, nodes: Collection[str], variant: str) -> fx.GraphModule:
    """The network of a variant with all layers in float but some.

    Args:
        calibrated: weights and ranges.
        nodes: names of the nodes that call the quantized layers.
        variant: "cpu" or "tensorrt".
    """
    traced = calibrated.traced
    others = {node.name for node in traced.graph.nodes if kind(traced, node) == "conv" and node.name not in nodes}
    return Calibrated(ignoring(traced, others), calibrated.ranges).render(variant)


class PartialRuns(nn.Module):
    """The float network, and variants of it that begin where they differ from the last float run.

    Args:
        traced: from `trace_network`.
    """

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__()
        self.traced = traced
        self.values: dict[str, Any] = {}
        self.chosen: fx.GraphModule | None = None

    def choose(self, network: fx.GraphModule | None) -> None:
        """Run a rendered network from now on, or with None the float one, whose results are remembered."""
        self.chosen = network

    def forward(self, x: Tensor) -> Predictions:
        """Predictions for a normalized image (1, 3, H, W), the same one as that of the last float run."""
        predictions: Predictions
        if self.chosen is None:
            self.values = {}
            predictions = _Remembering(self.traced, self.values).run(x)
        else:
            predictions = _Resuming(self.chosen, self.values).run(x)
        return predictions


class _Remembering(fx.Interpreter):
    def __init__(self, traced: fx.GraphModule, values: dict[str, Any]) -> None:
        super().__init__(traced)
        self.remembered = values

    def run_node(self, n: fx.Node) -> Any:
        self.remembered[n.name] = result = super().run_node(n)
        return result


class _Resuming(fx.Interpreter):
    """Takes what no quantizer and no quantized layer has changed from an earlier run."""

    def __init__(self, network: fx.GraphModule, values: dict[str, Any]) -> None:
        super().__init__(network)
        self.remembered, self.changed = values, _changed(network, values)

    def run_node(self, n: fx.Node) -> Any:
        return super().run_node(n) if n.name in self.changed else self.remembered[n.name]


def _changed(network: fx.GraphModule, values: Collection[str]) -> set[str]:
    """Names of the nodes whose results can differ: new ones, quantized layers, and whatever reads them."""
    changed: set[str] = set()
    for node in network.graph.nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        is_new = node.name not in values or isinstance(module, IntegerConv2d)
        if is_new or any(source.name in changed for source in node.all_input_nodes):
            changed.add(node.name)
    return changed
