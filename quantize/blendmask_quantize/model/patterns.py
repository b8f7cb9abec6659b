"""Layers named by patterns, for options such as ignored layers and layers that are not pruned."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Union

from blendmask_edge.errors import ConfigError

Pattern = Union[str, "re.Pattern[str]"]
"""Name of a layer or of a module that holds layers, a glob such as "backbone.*.conv1", or a compiled pattern."""
_COMPILED = "re:"
_SHOWN = 3


def parse_pattern(text: str) -> Pattern:
    """The pattern that a text stands for: `re:` begins a regular expression.

    Raises:
        ConfigError: it is not a regular expression.
    """
    if not text.startswith(_COMPILED):
        return text
    try:
        return re.compile(text.removeprefix(_COMPILED))
    except re.error as error:
        raise ConfigError(f"{text!r} is not a regular expression ({error}): correct it") from error


def describe_pattern(pattern: Pattern) -> str:
    """The pattern as the command line takes it: compiled ones begin with `re:`."""
    return pattern if isinstance(pattern, str) else f"{_COMPILED}{pattern.pattern}"


def matching(pattern: Pattern, layers: Iterable[str], what: str) -> list[str]:
    """The layers that a pattern stands for.

    A name or a glob stands for a layer, or for all layers of the module that it names. A compiled pattern is searched
    for in the name of each layer.

    Args:
        pattern: of layers.
        layers: their names.
        what: what the pattern names, e.g. "ignored layer", for the message.

    Raises:
        ConfigError: it stands for none of the layers; near misses are named.
    """
    known = list(dict.fromkeys(layers))
    matches = [name for name in known if _matches(pattern, name)]
    if not matches:
        raise _nothing(pattern, known, what)
    return matches


def _matches(pattern: Pattern, name: str) -> bool:
    if not isinstance(pattern, str):
        return pattern.search(name) is not None
    return any(fnmatchcase(module, pattern) for module in _modules(name))


def _modules(name: str) -> list[str]:
    """The layer, and each module that holds it."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _nothing(pattern: Pattern, layers: Iterable[str], what: str) -> ConfigError:
    known = list(dict.fromkeys(module for name in layers for module in _modules(name)))
    wanted = pattern if isinstance(pattern, str) else pattern.pattern
    near = difflib.get_close_matches(wanted, known, n=_SHOWN, cutoff=0.5)
    ends = [module for module in known if module.rpartition(".")[2] == wanted.rpartition(".")[2]]
    shown = list(dict.fromkeys((*ends, *near)))[:_SHOWN] or [name for name in known if "." not in name]
    return ConfigError(
        f"no convolution matches the {what} {describe_pattern(pattern)!r}: near it are {', '.join(shown)}. Give "
        "a name, a glob or a pattern of layers of this network"
    )
