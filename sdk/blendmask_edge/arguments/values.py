"""Checks of single values, and the message where one is something else."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from blendmask_edge.errors import ConfigError


def is_integer(value: Any, least: int, most: int = 2**63 - 1) -> bool:
    """Return whether a value is an integer in a range, of Python or NumPy."""
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def check_flag(name: str, value: object) -> None:
    """See that an argument is True or False.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}, expected True or False.")


def check_count(name: str, value: Any, most: int) -> None:
    """See that an argument is an integer from 1 to `most`.

    Raises:
        ConfigError: it is something else.
    """
    if not is_integer(value, 1, most):
        raise ConfigError(f"{name} is {value!r}, expected an integer from 1 to {most}.")


def is_number(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    """Return whether a value is a finite number in a range, of Python or NumPy."""
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    try:
        return is_real and least <= value <= most and math.isfinite(value)
    except OverflowError:  # an integer beyond floats
        return False


def check_number(name: str, value: Any, least: float, most: float) -> float:
    """Return an argument that is a number from `least` to `most`.

    Raises:
        ConfigError: it is something else.
    """
    if not is_number(value, least, most):
        raise ConfigError(f"{name} is {value!r}, expected a number from {least:g} to {most:g}.")
    return float(value)
