"""A baseline is the median of several runs; a comparison needs one that nothing disturbed."""

from __future__ import annotations

from typing import Iterator, List

import pytest

from blendmask_edge import DisturbedError
from blendmask_edge.benchmark.measure import Measured
from blendmask_edge.benchmark.repeated import measure_baseline, measure_undisturbed


def run(ratio: float, *signs: str, **more: float) -> Measured:
    metrics = {"latency_ratio": ratio, "mask_ap": 0.5, **more}
    return Measured(metrics, 200, [], signs, [ratio, 2 * ratio])


def test_a_run_that_is_far_off_does_not_move_a_baseline() -> None:
    runs = iter([run(1.2, memory_mb=300), run(1.0, memory_mb=310), run(0.99, memory_mb=290)])
    measured = measure_baseline(lambda: next(runs))
    assert measured.metrics == {"latency_ratio": 1.0, "mask_ap": 0.5, "memory_mb": 300}
    assert measured.latency_quantiles_ms == [1.0, 2.0]
    assert measured.frames == 200


def test_disturbed_runs_are_no_part_of_a_baseline() -> None:
    runs = iter([run(9.0, "busy"), run(1.0), run(8.0, "busy"), run(1.1), run(1.2)])
    assert measure_baseline(lambda: next(runs)).metrics["latency_ratio"] == 1.1


def test_too_few_quiet_runs_are_one_message() -> None:
    runs: Iterator[Measured] = iter([run(1.0), run(1.0), *(run(9.0, "Others work.") for _ in range(3))])
    with pytest.raises(DisturbedError, match=r"3 of 5 runs were disturbed.*3 that are not\. Others work\."):
        measure_baseline(lambda: next(runs))


@pytest.mark.parametrize("disturbed", range(5))
def test_a_comparison_takes_the_first_quiet_run_of_three(disturbed: int) -> None:
    runs: List[Measured] = [run(9.0, "busy")] * disturbed + [run(1.0)] * 5
    shown = iter(runs)
    measured = measure_undisturbed(lambda: next(shown))
    assert bool(measured.disturbances) == (disturbed >= 3)
    assert len(list(shown)) == len(runs) - min(disturbed + 1, 3)
