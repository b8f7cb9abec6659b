"""Checks of the numbers in options of a run: what passes is an int or a float, which can be recorded."""

from __future__ import annotations

import math
from typing import Any

from blendmask_edge.arguments.values import is_integer, is_number
from blendmask_edge.errors import ConfigError


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return an option as an int.

    Args:
        name: for messages.
        value: an integer of Python or NumPy.
        least, most: its bounds; None for no upper one but 64 bits.

    Raises:
        ConfigError: it is something else.
    """
    if not (is_integer(value, least) if most is None else is_integer(value, least, most)):
        limit = "" if most is None else f" and at most {most}"
        raise ConfigError(f"{name} is {value!r:.80}: give a whole number of at least {least}{limit}")
    return int(value)


def check_number(name: str, value: Any, least: float, below: float = math.inf) -> float:
    """Return an option as a float.

    Args:
        name: for messages.
        value: a finite number of Python or NumPy.
        least: its lower bound.
        below: what it is less than.

    Raises:
        ConfigError: it is something else.
    """
    if not is_number(value, least, below) or value == below:
        limit = "" if math.isinf(below) else f" and less than {below:g}"
        raise ConfigError(f"{name} is {value!r:.80}: give a number of at least {least:g}{limit}")
    return float(value)


def check_share(name: str, value: Any, what: str) -> float:
    """Return an option that is a number from 0 to 1.

    Args:
        name: for messages.
        value: the option.
        what: what it is, with its article.

    Raises:
        ConfigError: it is something else.
    """
    if not is_number(value, 0, 1):
        raise ConfigError(f"{name} is {value!r:.80}: give {what}, 0 to 1")
    return float(value)


def check_pair(name: str, value: Any) -> tuple[Any, Any]:
    """Return an option of two values as a tuple.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ConfigError(f"{name} is {value!r:.80}: give two numbers")
    return value[0], value[1]
