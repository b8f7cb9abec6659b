"""Layers that stay float, marked in the traced network, where the placement reads them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from torch import fx

from blendmask_quantize.model.patterns import Pattern, matching
from blendmask_quantize.quantization.nodes import kind

_MARK = "ignored"
_LATER_CALL = re.compile(r"_call\d+$")


def is_ignored(node: fx.Node) -> bool:
    """Whether a node was marked by `mark_ignored`."""
    return bool(node.meta.get(_MARK, False))


def mark_ignored(traced: fx.GraphModule, patterns: Sequence[Pattern]) -> None:
    """Mark the convolutions that any of the patterns names. Copies of the network keep the marks.

    A layer that the network calls several times is marked in each call.

    Args:
        traced: from `trace_network`.
        patterns: see `model.patterns.matching`.

    Raises:
        ConfigError: a pattern matches no convolution; near misses are named.
    """
    layers = {node: layer_of(node) for node in traced.graph.nodes if kind(traced, node) == "conv"}
    for pattern in patterns:
        matches = set(matching(pattern, layers.values(), "ignored layer"))
        for node, name in layers.items():
            if name in matches:
                node.meta[_MARK] = True


def ignoring(traced: fx.GraphModule, names: Collection[str]) -> fx.GraphModule:
    """The network with more nodes marked; it shares its modules with `traced`, which is left as it is.

    Args:
        traced: from `trace_network`.
        names: of nodes that call convolutions.
    """
    marked = fx.GraphModule(traced, traced.graph.__deepcopy__({}))
    for node in marked.graph.nodes:
        if node.name in names:
            node.meta[_MARK] = True
    return marked.eval()


def layer_of(node: fx.Node) -> str:
    """Name of the layer that a node calls, the same for each of its calls."""
    return _LATER_CALL.sub("", str(node.target))
