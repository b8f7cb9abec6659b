"""Resources of this process: memory, threads and descriptors (Linux)."""

from __future__ import annotations

import gc
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

_SELF = Path("/proc/self")
_TO_LEAVE = 2.0
"""Seconds."""
_SETTLED = 0.1
"""Share of the readings at the start that are left out: pools and caches fill."""


class Held(NamedTuple):
    """Resident memory in megabytes, number of threads, number of open descriptors."""

    megabytes: float
    threads: int
    descriptors: int


def held(before: Held | None = None) -> Held:
    """Read what this process holds now, after garbage has been collected.

    Args:
        before: an earlier reading. A thread that was joined leaves the system's list a moment later: while there are
            more than before, it is waited for, two seconds at most.
    """
    gc.collect()
    until = time.monotonic() + _TO_LEAVE
    while before is not None and _entries("task") > before.threads and time.monotonic() < until:
        time.sleep(0.01)
    return Held(resident_megabytes(), _entries("task"), _entries("fd"))


def _entries(folder: str) -> int:
    return len(list((_SELF / folder).iterdir()))


def resident_megabytes() -> float:
    """Resident memory of this process."""
    pages = int((_SELF / "statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass(frozen=True)
class MemoryTrend:
    """Readings of the resident memory over a run.

    seconds: when each was taken.
    megabytes: what it was.
    """

    seconds: list[float]
    megabytes: list[float]

    @property
    def slope(self) -> float:
        """Megabytes per hour by least squares, without the first tenth of the readings."""
        first = int(_SETTLED * len(self.seconds))
        return 3600 * float(np.polyfit(self.seconds[first:], self.megabytes[first:], 1)[0])

    @property
    def growth(self) -> float:
        """Megabytes from the median of the second tenth of the readings to that of the last tenth."""
        tenth = max(1, int(_SETTLED * len(self.seconds)))
        return float(np.median(self.megabytes[-tenth:]) - np.median(self.megabytes[tenth : 2 * tenth]))

    def read(self) -> None:
        """Take a reading."""
        gc.collect()
        self.seconds.append(time.perf_counter())
        self.megabytes.append(resident_megabytes())
