"""Times of frames, summed up: percentiles by stage, ratios to the reference workload, and what is odd about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence

import numpy as np
from numpy.typing import NDArray

STAGES = ("decode", "preprocess", "network", "postprocess")
WHOLE = "latency"
TAIL = f"{WHOLE}_p99_ratio"
PERCENTILES = (50, 90, 99)
QUANTILES = tuple(range(0, 101, 5))
"""Percentages of the frames at which the distribution of the latency is kept."""

_BLOCK = 10
_OUTLIER_SCORE = 10.0
_MAD_TO_DEVIATION = 0.6745
_TOLD_OUTLIERS = 0.05
FRAMES_OF_P99 = 100
"""Frames from which a 99th percentile is more than the slowest."""


@dataclass(frozen=True)
class Frame:
    """Seconds of one frame.

    decode: image file to array; a camera does not need it, so it is not part of the whole.
    preprocess: array to network input.
    network: the graph.
    postprocess: outputs to instances, masks pasted into crops.
    reference: the reference workload, just before.
    """

    decode: float
    preprocess: float
    network: float
    postprocess: float
    reference: float

    @property
    def latency(self) -> float:
        """Array in, masks out."""
        return self.preprocess + self.network + self.postprocess


def summarize(frames: Sequence[Frame]) -> Dict[str, float]:
    """Return metrics of the times.

    `latency_p50_ms`, `latency_p90_ms`, `latency_p99_ms`, array in, masks out, and the same of each stage and of the
    reference: `decode_p50_ms` ...; `latency_ratio`, the time over the reference's beside it, and `decode_ratio` ... of
    each stage; `latency_p99_ratio`, the 99th percentile over the median of the reference, of 100 frames or more;
    `outside_share`, preprocess and postprocess as a share of the whole; `fps`, frames in a second of their own time.

    A ratio is the median over blocks of ten frames: within a block, the scheduler's turns even out; between blocks,
    the median leaves bursts of other work aside.
    """
    times = {name: np.array([getattr(frame, name) for frame in frames]) for name in (WHOLE, *STAGES, "reference")}
    metrics = {
        f"{name}_p{percent}_ms": 1000 * float(np.percentile(values, percent))
        for name, values in times.items()
        for percent in PERCENTILES
    }
    for name in (WHOLE, *STAGES):
        metrics[f"{name}_ratio"] = float(np.median(_block_sums(times[name]) / _block_sums(times["reference"])))
    if len(frames) >= FRAMES_OF_P99:
        typical = float(np.median(times["reference"]))
        metrics[TAIL] = float(np.percentile(times[WHOLE], 99)) / typical
    metrics["outside_share"] = float((times["preprocess"].sum() + times["postprocess"].sum()) / times[WHOLE].sum())
    metrics["fps"] = float(len(frames) / times[WHOLE].sum())
    return metrics


def latency_quantiles(frames: Sequence[Frame]) -> List[float]:
    """Return the milliseconds from array to masks that 0, 5, ..., 100 % of the frames do not exceed."""
    times = [1000 * frame.latency for frame in frames]
    return [round(value, 3) for value in np.percentile(times, QUANTILES).tolist()]


def _block_sums(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of ten frames each; what is left over at the end belongs to the last block."""
    starts = np.arange(0, max(len(times) - _BLOCK + 1, 1), _BLOCK)
    return np.asarray(np.add.reduceat(times, starts))


def outliers(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the values that are far from the others by the modified z-score.

    Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993: 0.6745 (x - median) / MAD. Their limit of 3.5 is for
    normal data; times have a tail, so 10 is taken here. Nothing is marked where more than half of the values are equal.
    """
    distance = np.abs(values - np.median(values))
    deviation = np.median(distance)
    if deviation == 0:
        return np.zeros(len(values), np.bool_)
    return np.asarray(_MAD_TO_DEVIATION * distance / deviation > _OUTLIER_SCORE)


def remarks(frames: Sequence[Frame]) -> List[str]:
    """Return what is odd about the times, each with what to do about it; see also `disturbance`."""
    latency = np.array([frame.latency for frame in frames])
    notes = []
    odd = int(outliers(latency).sum())
    if odd > _TOLD_OUTLIERS * len(frames):
        notes.append(f"{odd} of {len(frames)} frames are outliers: another process may be at work; stop it and repeat.")
    if len(frames) < FRAMES_OF_P99:
        notes.append(
            f"p99 of {len(frames)} frames is hardly more than the slowest, so that no limit applies to {TAIL}; take "
            f"{FRAMES_OF_P99} or more."
        )
    return notes
