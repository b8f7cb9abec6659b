"""Choices of a runtime that were measured before, one small file each in the cache folder.

A cache that cannot be read or written is no error: the trial is then run again.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Dict, Iterable, Optional

import msgspec

from blendmask_edge.errors import OutputError
from blendmask_edge.hardware.cpu import processor
from blendmask_edge.storage.atomic import write_bytes
from blendmask_edge.storage.cache import cache_folder

EXPIRY_DAYS = 30
_FOLDER_NAME = "runtimes"


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
        choice = msgspec.json.decode(_path(key).read_bytes(), type=Choice)
    except (OSError, OutputError, msgspec.MsgspecError, ValueError):
        return None
    return choice if 0 <= time.time() - choice.measured < EXPIRY_DAYS * 86400 else None


def remember(key: str, choice: Choice) -> bool:
    """Keep `choice` under `key`; return whether that could be done."""
    try:
        path = _path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, msgspec.json.encode(choice))
    except (OSError, OutputError):
        return False
    return True


def _path(key: str) -> Path:
    return cache_folder() / _FOLDER_NAME / f"{key}.json"
