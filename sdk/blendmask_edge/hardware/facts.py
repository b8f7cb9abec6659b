"""Facts about hardware and its software: a value, its source, and how far it is known."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

import msgspec

Mark = Literal["verified", "documented", "unverified"]
"""Verified by an experiment, documented in public text, or unverified general knowledge."""
T = TypeVar("T")


class Fact(msgspec.Struct, Generic[T], frozen=True, forbid_unknown_fields=True):
    """One fact: its value, where it comes from, and how far it is known."""

    value: T
    source: str
    mark: Mark
