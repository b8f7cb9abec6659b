"""Rates of detection with their intervals, and the spread of what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_Z = 1.96
CAUGHT, FALSE_ALARMS = "caught", "false_alarm_rate"


def rate_of(reported: Sequence[bool], planted: bool) -> dict[str, float]:
    """Return the share of reports, and `_low`, `_high` of its 95 % interval (Wilson, 1927); nothing without runs.

    The share is `caught` where a fault was planted, and `false_alarm_rate` where none was.

    Args:
        reported: by run, whether the gate reported something.
        planted: whether the runs have a fault.
    """
    runs = len(reported)
    if not runs:
        return {}
    rate = sum(reported) / runs
    center = (rate + _Z**2 / (2 * runs)) / (1 + _Z**2 / runs)
    half = _Z / (1 + _Z**2 / runs) * math.sqrt(rate * (1 - rate) / runs + _Z**2 / (4 * runs**2))
    low, high = max(0.0, round(center - half, 3)), min(1.0, round(center + half, 3))
    name = CAUGHT if planted else FALSE_ALARMS
    return {name: round(rate, 3), f"{name}_low": low, f"{name}_high": high}


def spread_of(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return mean, least and largest value as `NAME`, `NAME_low`, `NAME_high`."""
    parts = {name: np.mean(values), f"{name}_low": np.min(values), f"{name}_high": np.max(values)}
    return {key: round(float(value), 5) for key, value in parts.items()}
