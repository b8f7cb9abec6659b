"""Time predictors side by side: the one protocol of every comparison of speed, in studies and in reports.

Image in, masks out as crops; `THREADS` threads each; every image is shown to every predictor in turn, in alternating
order, so that a busy machine treats them alike; `REST_SECONDS` of quiet before each frame, since threads of ONNX
Runtime go on looking for work for a while beside whoever comes next; one round that is not counted. Medians are quoted,
and a ratio is the ratio of the medians that are quoted beside it.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, Sequence

import numpy as np

from blendmask_edge.hardware.timing import REST_SECONDS, WARM_UP, read_in_turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.instances import Instances

    Predict = Callable[[NDArray[np.uint8]], Instances]

THREADS = 2
ROUNDS = 3


def time_side_by_side(
    predictors: Mapping[str, Predict],
    images: Sequence[NDArray[np.uint8]],
    rounds: int = ROUNDS,
    rest: float = REST_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Dict[str, List[float]]:
    """Return the milliseconds of each frame by predictor, the same frames in the same order for each.

    Args:
        predictors: by name; opened with `THREADS` threads, and with graphs that compute masks for the same rows.
        images: (H, W, 3) uint8 RGB.
        rounds: how often each image is shown.
        rest: seconds of quiet before each frame.
        clock: seconds.
        sleep: waits for seconds.
    """

    def timer(predict: Predict) -> Callable[[int], float]:
        def milliseconds(position: int) -> float:
            start = clock()
            predict(images[position]).crops()
            return 1000 * (clock() - start)

        return milliseconds

    timers = {name: timer(predict) for name, predict in predictors.items()}
    return read_in_turn(timers, range(WARM_UP, rounds), len(images), rest, sleep)


def speedup(times: Mapping[str, Sequence[float]], base: str, other: str) -> float:
    """Return the median time of `base` over that of `other`."""
    return statistics.median(times[base]) / statistics.median(times[other])


def latency_metrics(times: Mapping[str, Sequence[float]], base: str, name: str) -> Dict[str, float]:
    """Return `latency_p50_ms` and `latency_p90_ms` of a predictor, and its `speedup_vs_float`, that over `base`.

    The ratio is that of the rounded medians, so that it can be checked by who reads them.

    Args:
        times: milliseconds of the same frames, by predictor.
        base: the predictor that is compared with.
        name: the predictor that the metrics are about.
    """
    medians = {key: round(statistics.median(times[key]), 2) for key in (base, name)}
    return {
        "latency_p50_ms": medians[name],
        "latency_p90_ms": round(float(np.percentile(times[name], 90)), 2),
        "speedup_vs_float": round(medians[base] / medians[name], 3),
    }
