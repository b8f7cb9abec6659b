"""The quantized layers of a network, the blocks that they form, and what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx

from blendmask_quantize.quantization.ignored import layer_of
from blendmask_quantize.quantization.placement import VARIANTS, place

_CONTAINERS = {"backbone", "backbone.bottom_up", "proposal_generator", "proposal_generator.fcos_head", "basis_module"}
"""Modules too large to be a block."""


@dataclass(frozen=True)
class Layer:
    """A convolution with 8-bit weights, at all levels and in all calls.

    Attributes:
        name: of its module; `--ignored` takes it.
        macs: multiply-accumulates of one image.
        nodes: names of the nodes that call it.
    """

    name: str
    macs: int
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Layers:
    """The layers of a network.

    Attributes:
        quantized: those with 8-bit weights, in graph order.
        total_macs: multiply-accumulates of all layers, quantized or not.
    """

    quantized: tuple[Layer, ...]
    total_macs: int

    @classmethod
    def of(cls, traced: fx.GraphModule, macs: Mapping[str, int]) -> Layers:
        """Find the layers that the placement quantizes.

        Args:
            traced: from `trace_network`.
            macs: from `macs_by_layer`.
        """
        nodes: dict[str, list[str]] = {}
        quantized = place(traced, VARIANTS[0]).convs
        for node in traced.graph.nodes:
            if node.name in quantized:
                nodes.setdefault(_counted_name(layer_of(node), macs), []).append(node.name)
        layers = tuple(Layer(name, macs.get(name, 0), tuple(calls)) for name, calls in nodes.items())
        return cls(layers, sum(macs.values()))

    def blocks(self) -> dict[str, tuple[Layer, ...]]:
        """The layers of each block, by the name of its module: the smallest one that holds several layers."""
        names = [layer.name for layer in self.quantized]
        counts = Counter(module for name in names for module in _holders(name))
        blocks: dict[str, tuple[Layer, ...]] = {}
        for layer in self.quantized:
            block = next((module for module in _holders(layer.name) if counts[module] > 1), layer.name)
            blocks[block] = (*blocks.get(block, ()), layer)
        return blocks

    def share(self, layers: Sequence[Layer]) -> float:
        """Share of all multiply-accumulates, 0 to 1, that are in some layers."""
        return sum(layer.macs for layer in layers) / self.total_macs

    def float_share(self, reverted: Sequence[Layer] = ()) -> float:
        """Share of all multiply-accumulates, 0 to 1, in float: of box predictors, and of layers that are reverted."""
        return 1 - self.share(self.quantized) + self.share(reverted)


def _counted_name(name: str, macs: Mapping[str, int]) -> str:
    """The layer as it is counted: with folded statistics a level, a shared layer has become one a level."""
    return next((holder for holder in (name, name.rpartition(".")[0]) if holder in macs), name)


def _holders(name: str) -> list[str]:
    """The modules that hold a layer, smallest first, without those that are too large."""
    parts = name.split(".")
    modules = (".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
    return [module for module in modules if module not in _CONTAINERS]
