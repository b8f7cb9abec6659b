"""Latency of predictors on the same images, interleaved so that a busy machine treats them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from blendmask_edge.instances import Instances

Predictor = Callable[[NDArray[np.uint8]], Instances]


def interleaved_latency(
    predictors: Mapping[str, Predictor], images: Sequence[NDArray[np.uint8]], rounds: int = 3, rest: float = 0.0
) -> dict[str, list[float]]:
    """Milliseconds of each frame, image in, masks out as crops, by predictor.

    Every image is shown to every predictor in turn, in alternating order; one round that is not counted warms up.

    Args:
        predictors: by name.
        images: (H, W, 3) uint8 RGB.
        rounds: how often each image is shown.
        rest: seconds of quiet before each frame, for runtimes whose threads look for work a while after each frame.
    """
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for turn in range(-1, rounds):
        for position, image in enumerate(images):
            names = list(predictors)
            for name in names if (turn + position) % 2 else reversed(names):
                time.sleep(rest)
                start = time.perf_counter()
                predictors[name](image).crops()
                if turn >= 0:
                    times[name].append(1000 * (time.perf_counter() - start))
    return times


def median_ratio(times: Mapping[str, Sequence[float]], base: str, other: str) -> float:
    """Median over frames of the time of `base` over that of `other`, frame by frame."""
    return statistics.median(b / o for b, o in zip(times[base], times[other], strict=True))
