"""Signs that other work shared the processor with a measurement, so that its times say little about what was measured.

Two witnesses are asked. The reference workload beside the frames does the same work each time: where its time spreads
or drifts, the machine changed. The kernel counts what the processors did: time that other processes had, or that the
host of a virtual machine took (steal), was not available.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, List, Optional, Sequence

import numpy as np

if TYPE_CHECKING:
    from blendmask_edge.benchmark.latency import Frame

MAX_DRIFT = 0.10
"""Largest change of the reference workload's time from the first quarter of the frames to the last."""
MAX_SPREAD = 1.5
"""Largest ratio of the reference workload's 90th percentile to its 10th."""
MAX_OTHER_SHARE = 0.10
"""Largest share of the time of the measured work's cores that may have gone to others; the other cores are theirs."""

_STAT = Path("/proc/stat")
_IDLE_FIELDS = (3, 4)  # idle, iowait; proc_stat(5)


@dataclass(frozen=True)
class CpuTimes:
    """Seconds since some start: of all usable cores together, of those not idle, and of this process.

    Those of a child process are its own once it has ended and was waited for.
    """

    total: float
    busy: float
    own: float
    cores: int


ReadCpuTimes = Callable[[], Optional[CpuTimes]]


def read_cpu_times() -> Optional[CpuTimes]:
    """Read what the usable cores and this process have done so far; None where the system does not tell."""
    if not hasattr(os, "sched_getaffinity") or not _STAT.is_file():
        return None
    usable, tick = os.sched_getaffinity(0), float(os.sysconf("SC_CLK_TCK"))
    total, busy, cores = 0.0, 0.0, 0
    for line in _STAT.read_text(encoding="ascii").splitlines():
        core = re.match(r"cpu(\d+) ", line)
        if core and int(core[1]) in usable:
            ticks = [float(field) for field in line.split()[1:9]]
            total += sum(ticks) / tick
            busy += (sum(ticks) - sum(ticks[field] for field in _IDLE_FIELDS)) / tick
            cores += 1
    own = os.times()
    return CpuTimes(total, busy, sum(own[:4]), cores) if total else None


def disturbances(
    frames: Sequence[Frame],
    before: Optional[CpuTimes] = None,
    after: Optional[CpuTimes] = None,
    threads: Optional[int] = None,
) -> List[str]:
    """Return the signs that a measurement was disturbed, each with what to do; nothing where it was not.

    Args:
        frames: in the order in which they were timed.
        before, after: what the processors had done when the first frame began and when the last had ended.
        threads: as `other_work`.
    """
    reference = np.array([frame.reference for frame in frames])
    signs = [_drift(reference), _spread(reference), other_work(before, after, threads)]
    return [sign for sign in signs if sign]


def _drift(reference: np.ndarray) -> str:
    quarter = max(1, len(reference) // 4)
    drift = float(np.median(reference[-quarter:]) / np.median(reference[:quarter])) - 1
    if abs(drift) <= MAX_DRIFT:
        return ""
    return (
        f"The reference workload became {abs(drift):.0%} {'slower' if drift > 0 else 'faster'} during the run: "
        "let the machine cool down or come to rest, and repeat."
    )


def _spread(reference: np.ndarray) -> str:
    low, high = 1000 * np.percentile(reference, [10, 90])
    if high <= MAX_SPREAD * low:
        return ""
    return (
        f"The reference workload took from {low:.1f} to {high:.1f} ms: other work shares the cores, and the more "
        "threads the network has, the more it suffers. Stop it for times to rely on."
    )


def other_work(before: Optional[CpuTimes], after: Optional[CpuTimes], threads: Optional[int] = None) -> str:
    """Return a sign that others had the cores of the measured work between two readings; empty where they did not.

    Args:
        before, after: the two readings.
        threads: of the measured work, which leaves the other cores to others; None for as many as there are cores.
    """
    if before is None or after is None or after.total <= before.total:
        return ""
    others = (after.busy - before.busy) - (after.own - before.own)
    share = others / (after.total - before.total)
    needed = 1.0 if threads is None else min(1.0, threads / after.cores)
    if share <= 1 - needed + MAX_OTHER_SHARE * needed:
        return ""
    fewer = "" if threads == 1 or after.cores == 1 else ", or measure with one thread (--threads 1)"
    return f"Other processes or the host took {share:.0%} of the cores' time: stop them for times to rely on{fewer}."
