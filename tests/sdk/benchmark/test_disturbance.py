"""Signs of other work on the cores: the reference workload beside the frames, and what the kernel counts."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Callable, List, Optional

import numpy as np
import pytest

from blendmask_edge.benchmark import disturbance
from blendmask_edge.benchmark.disturbance import CpuTimes, disturbances, read_cpu_times
from blendmask_edge.benchmark.latency import Frame


def frames(factor: Callable[[int], float] = lambda _: 1.0, count: int = 200) -> List[Frame]:
    """Return frames whose reference workload takes `factor` of its place times as long as usual."""
    rng = np.random.default_rng(0)
    steady = [Frame(*(np.array([2, 1, 30, 4, 5]) * rng.normal(1, 0.02, 5) / 1000)) for _ in range(count)]
    return [replace(frame, reference=frame.reference * factor(place)) for place, frame in enumerate(steady)]


def test_steady_reference_is_no_disturbance() -> None:
    assert disturbances(frames()) == []


def test_slow_frames_alone_are_the_models_own() -> None:
    slow = [replace(frame, network=10 * frame.network) if place % 10 else frame for place, frame in enumerate(frames())]
    assert disturbances(slow) == []


def test_machine_that_heats_up_is_disturbed() -> None:
    (sign,) = disturbances(frames(lambda place: 1 + place / 400))
    assert "slower during the run" in sign


def test_machine_that_others_use_in_bursts_is_disturbed() -> None:
    (sign,) = disturbances(frames(lambda place: 3 if place % 4 == 0 else 1))
    assert "from 4.9 to 15." in sign


@pytest.mark.parametrize(("busy", "own", "disturbed"), [(9.0, 9.0, False), (10.5, 9.0, False), (12.0, 9.0, True)])
def test_time_that_others_had_is_what_was_busy_less_our_own(busy: float, own: float, disturbed: bool) -> None:
    result = disturbances(frames(), CpuTimes(100, 50, 7, 1), CpuTimes(120, 50 + busy, 7 + own, 1))
    assert bool(result) == disturbed
    assert not result or "took 15% of the cores' time" in result[0]


@pytest.mark.parametrize(
    ("threads", "cores", "others", "disturbed"),
    [
        (1, 2, 1.0, False),  # the other core is theirs
        (1, 2, 1.2, True),
        (2, 2, 0.1, False),
        (2, 2, 0.3, True),
        (None, 2, 0.3, True),  # as many threads as cores
        (4, 2, 0.3, True),
        (1, 16, 15.0, False),
        (1, 16, 15.2, True),
        (4, 16, 12.3, False),
        (4, 16, 12.5, True),
    ],
)
def test_cores_that_the_threads_leave_are_for_others(
    threads: Optional[int], cores: int, others: float, disturbed: bool
) -> None:
    before, after = CpuTimes(0, 0, 0, cores), CpuTimes(10.0 * cores, 10 * others, 0, cores)
    signs = disturbances(frames(), before, after, threads)
    assert bool(signs) == disturbed
    assert not signs or ("--threads 1" in signs[0]) == (threads != 1)


@pytest.mark.parametrize("before", [None, CpuTimes(1, 1, 1, 2)])
def test_a_kernel_that_counts_nothing_is_no_witness(before: CpuTimes) -> None:
    assert disturbances(frames(), before, CpuTimes(1, 1, 1, 2)) == []


def test_usable_cores_alone_are_counted_steal_included(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 0 50 800 25 0 0 25 0 0\ncpu1 1 1 1 1 1 1 1 1 1 1\nintr 5\n")
    monkeypatch.setattr(disturbance, "_STAT", stat)
    monkeypatch.setattr(disturbance.os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(disturbance.os, "sysconf", lambda _: 100)
    result = read_cpu_times()
    assert result is not None
    assert (result.total, result.busy) == (10.0, 1.75)


def test_a_system_without_counters_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturbance, "_STAT", tmp_path / "none")
    assert read_cpu_times() is None


def test_work_of_a_process_that_was_started_and_ended_is_its_own() -> None:
    before = read_cpu_times()
    if before is None:
        pytest.skip("this system does not tell what its processors did")
    program = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-S", "-c", program], check=True)
    after = read_cpu_times()
    assert after is not None
    assert after.own - before.own >= 0.29
