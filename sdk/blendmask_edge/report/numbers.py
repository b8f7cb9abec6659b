"""Numbers as they stand in a report."""

from __future__ import annotations

from typing import Any, Mapping, Optional

ABSENT = "-"


def percent(share: Optional[float], digits: int = 1) -> str:
    """Return a share, 0 to 1, as points out of 100 without a sign for them."""
    return ABSENT if share is None else f"{100 * share:.{digits}f}"


def change_of(now: Optional[float], before: Optional[float], digits: int = 1) -> str:
    """Return how many points out of 100 a share moved, with its sign."""
    if now is None or before is None:
        return ABSENT
    return f"{round(100 * (now - before), digits) + 0.0:+.{digits}f}"  # 0.0 is added since -0.0 would keep its sign


def plain(value: Optional[float], digits: int = 1) -> str:
    """Return a number with some digits after the point."""
    return ABSENT if value is None else f"{value:.{digits}f}"


def megabytes(count: Optional[int]) -> str:
    """Return bytes as MB."""
    return ABSENT if not count else f"{count / 1e6:.2f}"


def in_words(value: Any) -> str:
    """Return a value of JSON without its braces and quotes: names and values in turn, nested ones in parentheses."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(in_words, value)) or "none"
    if isinstance(value, Mapping):
        nested = {
            name: f"({in_words(each)})" if isinstance(each, Mapping) else in_words(each) for name, each in value.items()
        }
        return ", ".join(f"{name} {text}" for name, text in nested.items()) or "none"
    return "none" if value is None else str(value)
