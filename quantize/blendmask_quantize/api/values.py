"""Checks of single values: what an argument may be, and the message where it is something else."""

from __future__ import annotations

import math
import os
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blendmask_edge.arguments.values import is_integer, is_number
from blendmask_edge.errors import ConfigError

_MOST = 2**63 - 1


@dataclass(frozen=True)
class Kind:
    """The values that an argument may have.

    Attributes:
        fits: whether a value is of the kind.
        expected: the kind in words, to follow "expected".
    """

    fits: Callable[[Any], bool]
    expected: str

    def or_none(self) -> Kind:
        """The kind, or None."""
        return Kind(lambda value: value is None or self.fits(value), f"{self.expected}, or None")

    def check(self, name: str, value: Any) -> None:
        """See that an argument is of the kind.

        Raises:
            ConfigError: it is not; the message names the argument.
        """
        if not self.fits(value):
            raise ConfigError(f"{name} is {reprlib.repr(value)}, expected {self.expected}")


def whole(low: int, high: int = _MOST) -> Kind:
    """A whole number in a range."""
    wanted = f"a whole number from {low}" + (f" to {high}" if high < _MOST else "")
    return Kind(lambda value: isinstance(value, int) and is_integer(value, low, high), wanted)


def number(low: float, high: float, *, above: bool = False) -> Kind:
    """A finite number in a range, `low` itself left out if `above`."""
    upper = f" up to {high:g}" if math.isfinite(high) else ""
    wanted = f"a number above {low:g}{upper and ' and'}{upper}" if above else f"a number of {low:g} or more{upper}"

    def fits(value: Any) -> bool:
        return is_number(value, low, high) and (value > low or not above)

    return Kind(fits, wanted)


def one_line(most: int = 200) -> Kind:
    """Text of one line."""
    return Kind(
        lambda value: isinstance(value, str) and 0 < len(value) <= most and value.isprintable(),
        f"text of one line and at most {most} characters",
    )


def each(kind: Kind, things: str) -> Kind:
    """A tuple or list of values of a kind."""
    return Kind(lambda value: isinstance(value, (tuple, list)) and all(map(kind.fits, value)), f"a tuple of {things}")


FLAG = Kind(lambda value: isinstance(value, bool), "True or False")
TEXT = Kind(lambda value: isinstance(value, str), "text")
PATTERN = Kind(lambda value: isinstance(value, (str, re.Pattern)), "a name or a pattern")
PATH = Kind(lambda value: _is_path(value), "a path, str or pathlib.Path")
SIZE = Kind(
    lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(_is_whole, value)),
    "height and width in pixels, e.g. (384, 512)",
)
CALLABLE = Kind(callable, "a function")


def as_path(name: str, value: Any) -> Path:
    """An argument as a path.

    Raises:
        ConfigError: it is none.
    """
    PATH.check(name, value)
    return Path(value)


def check_all(kinds: Mapping[str, Kind], values: Mapping[str, Any]) -> None:
    """See that arguments are of their kinds.

    Raises:
        ConfigError: one is not; the message names it.
    """
    for name, kind in kinds.items():
        kind.check(name, values[name])


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and is_integer(value, -_MOST)


def _is_path(value: Any) -> bool:
    location = value.__fspath__() if isinstance(value, os.PathLike) else value
    return isinstance(location, str) and location != "" and "\0" not in location
