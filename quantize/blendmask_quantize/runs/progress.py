"""Progress of long work: who does it announces stages, who calls it may show them."""

from __future__ import annotations

from collections.abc import Callable

OnStep = Callable[[], None]
Progress = Callable[[str, int], OnStep]
"""Announces a stage by its name and number of steps; returns what to call after each step."""


def silent(_name: str, _total: int) -> OnStep:
    """Show nothing."""
    return ignore


def ignore() -> None:
    """Do nothing: nobody watches."""
