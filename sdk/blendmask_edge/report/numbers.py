"""Numbers as they stand in a report."""

from __future__ import annotations

from typing import Optional

ABSENT = "-"


def percent(share: Optional[float], digits: int = 1) -> str:
    """Return a share, 0 to 1, as points out of 100 without a sign for them."""
    return ABSENT if share is None else f"{100 * share:.{digits}f}"


def change_of(now: Optional[float], before: Optional[float], digits: int = 1) -> str:
    """Return how many points out of 100 a share moved, with its sign."""
    return ABSENT if now is None or before is None else f"{100 * (now - before):+.{digits}f}"


def plain(value: Optional[float], digits: int = 1) -> str:
    """Return a number with some digits after the point."""
    return ABSENT if value is None else f"{value:.{digits}f}"


def megabytes(count: Optional[int]) -> str:
    """Return bytes as MB."""
    return ABSENT if not count else f"{count / 1e6:.2f}"
