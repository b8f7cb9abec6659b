"""Layers that stay float, marked in the traced network, where the placement reads them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Union

from torch import fx

from blendmask_edge.errors import ConfigError
from blendmask_quantize.quantization.nodes import kind

Pattern = Union[str, "re.Pattern[str]"]
"""Name of a layer or of a module that holds layers, a glob such as "backbone.*.conv1", or a compiled pattern."""
_MARK = "ignored"
_LATER_CALL = re.compile(r"_call\d+$")
_SHOWN = 3


def is_ignored(node: fx.Node) -> bool:
    """Whether a node was marked by `mark_ignored`."""
    return bool(node.meta.get(_MARK, False))


def mark_ignored(traced: fx.GraphModule, patterns: Sequence[Pattern]) -> None:
    """Mark the convolutions that any of the patterns names. Copies of the network keep the marks.

    A name or a glob stands for a layer, or for all layers of the module that it names. A compiled pattern is searched
    for in the name of each layer. A layer that the network calls several times is marked in each call.

    Args:
        traced: from `trace_network`.
        patterns: as of `QuantizeOptions.ignored`.

    Raises:
        ConfigError: a pattern matches no convolution; near misses are named.
    """
    layers = {node: layer_of(node) for node in traced.graph.nodes if kind(traced, node) == "conv"}
    for pattern in patterns:
        matching = [node for node, name in layers.items() if _matches(pattern, name)]
        if not matching:
            raise _nothing(pattern, list(layers.values()))
        for node in matching:
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


def describe_pattern(pattern: Pattern) -> str:
    """The pattern as the command line takes it: compiled ones begin with `re:`."""
    return pattern if isinstance(pattern, str) else f"re:{pattern.pattern}"


def layer_of(node: fx.Node) -> str:
    """Name of the layer that a node calls, the same for each of its calls."""
    return _LATER_CALL.sub("", str(node.target))


def _matches(pattern: Pattern, name: str) -> bool:
    if not isinstance(pattern, str):
        return pattern.search(name) is not None
    return any(fnmatchcase(module, pattern) for module in _modules(name))


def _modules(name: str) -> list[str]:
    """The layer, and each module that holds it."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _nothing(pattern: Pattern, layers: Iterable[str]) -> ConfigError:
    known = list(dict.fromkeys(module for name in layers for module in _modules(name)))
    wanted = pattern if isinstance(pattern, str) else pattern.pattern
    near = difflib.get_close_matches(wanted, known, n=_SHOWN, cutoff=0.5)
    ends = [module for module in known if module.rpartition(".")[2] == wanted.rpartition(".")[2]]
    shown = list(dict.fromkeys((*ends, *near)))[:_SHOWN] or [name for name in known if "." not in name]
    return ConfigError(
        f"no convolution matches the ignored layer {describe_pattern(pattern)!r}: near it are {', '.join(shown)}. Give "
        "a name, a glob or a pattern of layers of this network"
    )
