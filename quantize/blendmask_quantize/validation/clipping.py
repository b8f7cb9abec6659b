"""Which tensors hold values beyond their calibrated ranges, and how many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from blendmask_quantize.quantization.ptq import Calibrated


class _Beyond(fx.Interpreter):
    """Runs the network and counts the values of each tensor, and those of them beyond its range."""

    def __init__(self, calibrated: Calibrated) -> None:
        super().__init__(calibrated.traced)
        self.highs = {name: bounds.high for name, bounds in calibrated.ranges.items()}
        self.beyond, self.total = dict.fromkeys(self.highs, 0), dict.fromkeys(self.highs, 0)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.highs:
            self.beyond[n.name] += int((result.abs() > self.highs[n.name]).sum())
            self.total[n.name] += result.numel()
        return result


@torch.no_grad()
def clipped_shares(calibrated: Calibrated, inputs: Iterable[Tensor]) -> dict[str, float]:
    """Share of the values, 0 to 1, that rounding to 8 bits would clip, of each tensor with a range, by node name.

    Args:
        calibrated: network and ranges; the network is run in float.
        inputs: normalized images (1, 3, H, W).
    """
    counter = _Beyond(calibrated)
    for x in inputs:
        counter.run(x)
    return {name: count / max(counter.total[name], 1) for name, count in counter.beyond.items()}


def most_clipped(calibrated: Calibrated, shares: dict[str, float], most: int = 5) -> dict[str, float]:
    """The largest shares above 0, largest first, by the layer that a tensor comes from.

    A layer that is called for several levels stands for each of its calls.
    """
    nodes = {node.name: node for node in calibrated.traced.graph.nodes}
    worst = sorted((name for name in shares if shares[name] > 0), key=lambda name: -shares[name])[:most]
    return {_layer(nodes[name]): shares[name] for name in worst}


def _layer(node: fx.Node) -> str:
    """Module that computes a tensor, or the node's name and the modules that it joins."""
    if node.op == "call_module":
        return str(node.target)
    sources = [str(source.target) for source in node.all_input_nodes if source.op == "call_module"]
    return f"{node.name} ({', '.join(sources)})" if sources else node.name
