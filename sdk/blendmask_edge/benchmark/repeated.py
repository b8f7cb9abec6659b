"""Repeat a measurement: while other work disturbs it, and for a baseline, which later runs are held to."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Callable, List, Sequence

from blendmask_edge.errors import DisturbedError

if TYPE_CHECKING:
    from blendmask_edge.benchmark.measure import Measured

    MeasureOnce = Callable[[], Measured]

RUNS = 3
"""Runs at most until one is not disturbed."""
BASELINE_RUNS = 3
"""Runs that a baseline is the median of, so that one that is off by chance does not decide."""
_MOST_BASELINE_RUNS = 5


def measure_undisturbed(measure_once: MeasureOnce) -> Measured:
    """Measure until nothing disturbs a run, `RUNS` times at most; return the last run."""
    measured = measure_once()
    for _ in range(RUNS - 1):
        if measured.disturbances:
            measured = measure_once()
    return measured


def measure_baseline(measure_once: MeasureOnce) -> Measured:
    """Return the median of `BASELINE_RUNS` runs that nothing disturbed.

    Raises:
        DisturbedError: too many runs were disturbed.
    """
    runs: List[Measured] = []
    signs: Sequence[str] = ()
    for _ in range(_MOST_BASELINE_RUNS):
        measured = measure_once()
        if measured.disturbances:
            signs = measured.disturbances
        else:
            runs.append(measured)
        if len(runs) == BASELINE_RUNS:
            return _median(runs)
    raise DisturbedError(
        f"{_MOST_BASELINE_RUNS - len(runs)} of {_MOST_BASELINE_RUNS} runs were disturbed, and a baseline needs "
        f"{BASELINE_RUNS} that are not. {' '.join(signs)} Limits would hold later runs to times that other work made."
    )


def _median(runs: Sequence[Measured]) -> Measured:
    """Return the first run with the median of each of its metrics."""
    metrics = {name: statistics.median(run.metrics.get(name, value) for run in runs)
               for name, value in runs[0].metrics.items()}  # fmt: skip
    quantiles = [statistics.median(values) for values in zip(*(run.latency_quantiles_ms for run in runs))]
    return replace(runs[0], metrics=metrics, latency_quantiles_ms=quantiles)
