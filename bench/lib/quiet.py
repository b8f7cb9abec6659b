"""Measure times undisturbed by other work, or refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from blendmask_edge import DisturbedError, Instances
from blendmask_edge.benchmark.disturbance import ReadCpuTimes, other_work, read_cpu_times
from blendmask_edge.benchmark.side_by_side import time_side_by_side
from blendmask_edge.hardware.timing import REST_SECONDS

RUNS = 3
Times = dict[str, list[float]]
Reading = TypeVar("Reading")


def time_quietly(
    predictors: Mapping[str, Callable[[NDArray[np.uint8]], Instances]], images: Sequence[NDArray[np.uint8]],
    rest: float = REST_SECONDS, cpu_times: ReadCpuTimes = read_cpu_times,
) -> Times:  # fmt: skip
    """Time predictors side by side, `RUNS` times at most until other work took no time of the cores.

    Args:
        predictors, images, rest: as for `time_side_by_side`.
        cpu_times: tells what the processors have done so far.

    Raises:
        DisturbedError: each run was disturbed.
    """
    return quietly(lambda: time_side_by_side(predictors, images, rest=rest), cpu_times)


def quietly(measure: Callable[[], Reading], cpu_times: ReadCpuTimes = read_cpu_times) -> Reading:
    """Measure, `RUNS` times at most until other work took no time of the cores.

    Args:
        measure: takes the times and returns them in any form.
        cpu_times: tells what the processors have done so far.

    Raises:
        DisturbedError: each run was disturbed.
    """
    sign = ""
    for _ in range(RUNS):
        before = cpu_times()
        reading = measure()
        sign = other_work(before, cpu_times())
        if not sign:
            return reading
        print(f"disturbed: {sign}", flush=True)
    raise DisturbedError(f"Each of {RUNS} timings was disturbed. {sign} Nothing was written.")
