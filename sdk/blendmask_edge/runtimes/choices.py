"""Choices of a runtime that `auto` made before, one small file of the cache each."""

from __future__ import annotations

import hashlib
import time
from typing import Dict, Iterable, Optional

import msgspec

from blendmask_edge.errors import OutputError
from blendmask_edge.hardware.cpu import processor
from blendmask_edge.storage.cache import Cache

EXPIRY_DAYS = 30
_CACHE = "runtimes"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of a trial: the quickest runtime, seconds of one run of each that ran, and when (seconds since 1970)."""

    runtime: str
    seconds: Dict[str, float]
    measured: float


def key_of(candidates: Iterable[str], threads: Optional[int]) -> str:
    """Return the name under which the choice among `candidates` is kept on this machine with `threads`.

    Args:
        candidates: one text each, with all that decides on speed: runtime, its version, hash of the graph.
        threads: as asked by the user.
    """
    parts = [*sorted(candidates), processor(), f"threads {threads}"]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def recall(key: str) -> Optional[Choice]:
    """Return the choice remembered under `key`; None where there is none, or it is older than `EXPIRY_DAYS`.

    One that was made in the future, by a clock that was wrong, is as good as none.
    """
    try:
        content = Cache.of_machine(_CACHE).read(_name(key))
        choice = msgspec.json.decode(content, type=Choice) if content is not None else None
    except (OutputError, msgspec.MsgspecError, ValueError):
        return None
    return choice if choice is not None and 0 <= time.time() - choice.measured < EXPIRY_DAYS * 86400 else None


def remember(key: str, choice: Choice) -> None:
    """Keep `choice` under `key`; where that cannot be done, the next predictor chooses again."""
    try:
        Cache.of_machine(_CACHE).keep(_name(key), msgspec.json.encode(choice))
    except OutputError:
        return


def _name(key: str) -> str:
    return f"{key}.choice"
