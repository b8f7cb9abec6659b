"""One protocol of timing: in turn, rested, a round to warm up, medians and their ratio."""

from __future__ import annotations

from typing import Callable, List

import numpy as np
import pytest

from blendmask_edge.benchmark.side_by_side import latency_metrics, speedup, time_side_by_side
from tests.sdk.scenes import HandClock


class Answer:
    """Instances that take no time to paste."""

    def crops(self) -> List[object]:
        """Return nothing."""
        return []


def test_frames_alternate_after_a_rest_and_the_first_round_does_not_count() -> None:
    clock = HandClock(tick=0.0)
    seen: List[str] = []
    rests: List[float] = []

    def sleep(seconds: float) -> None:
        rests.append(seconds)
        clock.now += seconds

    def predictor(name: str, seconds: float) -> Callable[[np.ndarray], Answer]:
        def predict(image: np.ndarray) -> Answer:
            seen.append(f"{name}{image[0, 0, 0]}")
            clock.now += seconds if len(seen) > 4 else 100.0
            return Answer()

        return predict

    images = [np.full((2, 2, 3), number, np.uint8) for number in range(2)]
    predictors = {"a": predictor("a", 0.03), "b": predictor("b", 0.01)}
    times = time_side_by_side(predictors, images, rounds=2, rest=0.5, clock=clock, sleep=sleep)
    assert seen[:4] == ["a0", "b0", "b1", "a1"]
    assert len(seen) == len(rests) == 12
    assert set(rests) == {0.5}
    assert times == {"a": pytest.approx([30.0] * 4), "b": pytest.approx([10.0] * 4)}
    assert speedup(times, "a", "b") == pytest.approx(3)


def test_the_ratio_is_that_of_the_quoted_medians() -> None:
    times = {"float": [59.0, 59.48, 70.0], "int8": [20.0, 33.56, 60.0]}
    metrics = {name: latency_metrics(times, "float", name) for name in times}
    assert metrics["int8"]["latency_p50_ms"] == 33.56
    assert metrics["int8"]["speedup_vs_float"] == round(59.48 / 33.56, 3)
    assert metrics["float"]["speedup_vs_float"] == 1
