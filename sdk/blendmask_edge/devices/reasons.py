"""Reasons of a check, each with the source of the fact that it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol, Union

from blendmask_edge.devices.result import Reason
from blendmask_edge.hardware.facts import Mark


class Sourced(Protocol):
    """Anything of the table that says where it comes from."""

    @property
    def source(self) -> str:
        """Return where it comes from."""

    @property
    def mark(self) -> Mark:
        """Return how far it is known."""


@dataclass(frozen=True)
class Read:
    """The source of facts read in the bundle itself."""

    source: str
    mark: Mark = "verified"


Origin = Union[Sourced, Read]


def ground(text: str, origin: Origin) -> Reason:
    """Return a reason that speaks for it."""
    return Reason("ground", text, origin.source, origin.mark)


def caution(text: str, origin: Origin) -> Reason:
    """Return a reason that should be known before the start."""
    return Reason("caution", text, origin.source, origin.mark)


def refusal(text: str, origin: Origin, needs: Optional[str] = None) -> Reason:
    """Return a reason that makes the answer no, and the change to the bundle that would remove it."""
    return Reason("refusal", text, origin.source, origin.mark, needs)
