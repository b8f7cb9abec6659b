"""Columns that all tables of studies share."""

from __future__ import annotations

MET = {0: "missed", 1: "met"}
"""Text for each state of a target."""


def head(*titles: str) -> list[str]:
    """Return the header lines of a Markdown table."""
    return [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
