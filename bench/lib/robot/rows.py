"""Numbers of a row."""

from __future__ import annotations


def rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
