"""Choices of a runtime that were measured before, one small file each in the cache folder.

A cache that cannot be read or written is no error: the trial is then run again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Dict, Iterable, Optional

import msgspec

from blendmask_edge.errors import OutputError
from blendmask_edge.hardware.cpu import processor
from blendmask_edge.storage.atomic import write_bytes
from blendmask_edge.storage.cache import cache_folder

_FOLDER_NAME = "runtimes"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial found: the quickest runtime, and the seconds of one run of each that ran."""

    runtime: str
    seconds: Dict[str, float]


def key_of(candidates: Iterable[str], threads: Optional[int]) -> str:
    """Return the name under which the choice among `candidates` is kept on this machine with `threads`.

    Args:
        candidates: one text each, with all that decides on speed: runtime, its version, hash of the graph.
        threads: as asked by the user.
    """
    parts = [*sorted(candidates), processor(), f"threads {threads}"]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def recall(key: str) -> Optional[Choice]:
    """Return what was remembered under `key`, if anything sound was."""
    try:
        return msgspec.json.decode(_path(key).read_bytes(), type=Choice)
    except (OSError, OutputError, msgspec.MsgspecError, ValueError):
        return None


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
