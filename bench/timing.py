"""Times of predictors as rows of a study."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from blendmask_quantize.validation.latency import median_ratio


def latency_metrics(times: Mapping[str, Sequence[float]], base: str, name: str) -> dict[str, float]:
    """Latency of a predictor, and how many times as fast as another one it is, frame by frame.

    Args:
        times: milliseconds of the same frames, by predictor.
        base: the predictor that is compared with.
        name: the predictor that the row is about.
    """
    return {
        "latency_p50_ms": round(statistics.median(times[name]), 2),
        "latency_p90_ms": round(float(np.percentile(times[name], 90)), 2),
        "speedup_vs_float": round(median_ratio(times, base, name), 3),
    }
