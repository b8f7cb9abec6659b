"""The exception of this package, and the check of an argument."""

from __future__ import annotations

import math
import os
import reprlib
from typing import Any, Callable


class CalibrationError(ValueError):
    """Input cannot be used for calibration. The message states the actual and the expected input, and the next step."""


def require(fits: bool, name: str, value: object, expected: str) -> None:
    """Raise CalibrationError, which names the argument, unless it fits."""
    if not fits:
        raise CalibrationError(f"{name} is {reprlib.repr(value)}. Expected {expected}.")


def require_whole(name: str, value: object, low: int = 1) -> None:
    """Raise CalibrationError unless a value is an integer of at least `low`."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= low
    require(fits, name, value, f"an integer, {low} or more")


def require_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise CalibrationError unless a value is a number, above `low` and at most `high`."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and value <= high
    bounds = "" if low == -math.inf else f" above {low:g} and at most {high:g}"
    require(fits and (value > low or low == -math.inf), name, value, f"a number{bounds}")  # type: ignore[operator]


def require_path(name: str, value: object) -> None:
    """Raise CalibrationError unless a value is a path."""
    location = value.__fspath__() if isinstance(value, os.PathLike) else value
    require(isinstance(location, str) and "\0" not in location, name, value, "str or pathlib.Path")


def require_each(name: str, values: Any, fits: Callable[[Any], bool], expected: str) -> None:
    """Raise CalibrationError unless a value is a sequence, and each of its items fits."""
    is_sequence = hasattr(values, "__len__") and hasattr(values, "__iter__") and not isinstance(values, (str, bytes))
    require(is_sequence and all(map(fits, values)), name, values, expected)
