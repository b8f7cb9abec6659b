"""Which ranges: estimators that turn a histogram into the range a tensor is quantized over.

Every range is [0, high] or [-high, high], because TensorRT takes nothing but zero point 0. An estimator is told how
many steps lie between 0 and `high`: 255 for uint8 after ReLU, 127 for symmetric int8. How a range becomes a scale and a
zero point is the business of the variant that is rendered from it, not of this package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, Protocol

import numpy as np
import numpy.typing as npt

from blendmask_calibration.errors import CalibrationError
from blendmask_calibration.histogram import BINS, Histogram

# A range no smaller than this keeps its scale, high / 255, above zero even where a runtime stores it in half precision.
FLOOR = 2.0**-14
# Tried fractions of the largest magnitude, widest first so that ties keep it: 32 an octave, eight octaves.
_FRACTIONS = 2.0 ** (-np.arange(257) / 32)


@dataclass(frozen=True)
class Range:
    """The interval a tensor is quantized over, in its own units: `low` is 0 or `-high`, and `high` is above 0."""

    low: float
    high: float


class Estimator(Protocol):
    """Chooses a range from a histogram, given the number of quantization steps between 0 and the range's high end."""

    def __call__(self, histogram: Histogram, levels: int) -> Range:
        """Return the range. Raises CalibrationError for an empty histogram."""
        ...


@dataclass(frozen=True)
class Max:
    """Clips nothing: the exact largest magnitude. Right where outliers carry the meaning; hostage to them elsewhere."""

    def __call__(self, histogram: Histogram, levels: int) -> Range:  # noqa: ARG002
        """Return the range that holds every counted value; `levels` plays no part."""
        return range_up_to(histogram, histogram.magnitude)


@dataclass(frozen=True)
class Percentile:
    """Clips a fixed share: the narrowest range of whole bins that holds `percentage` per cent of the values.

    Raises:
        CalibrationError: `percentage` is not above 0 and at most 100.
    """

    percentage: float = 99.99

    def __post_init__(self) -> None:
        """Refuse a percentage that is none."""
        if not 0 < self.percentage <= 100:
            raise CalibrationError(f"Percentile {self.percentage} was asked for. Choose above 0 and at most 100.")

    def __call__(self, histogram: Histogram, levels: int) -> Range:  # noqa: ARG002
        """Return the range; exact zeros count as values, and `levels` plays no part."""
        inside = math.ceil(self.percentage / 100 * histogram.total)
        last = int(np.searchsorted(np.cumsum(histogram.counts), inside))
        return range_up_to(histogram, (last + 1) * histogram.width)


@dataclass(frozen=True)
class MeanSquaredError:
    """Balances clipping against rounding: the range with the least expected squared error over the tried ones."""

    def __call__(self, histogram: Histogram, levels: int) -> Range:
        """Return the best of 257 ranges, the largest magnitude times 1 down to 1/256 in steps of 2 per cent."""
        if histogram.magnitude <= FLOOR:
            return range_up_to(histogram, FLOOR)
        highs = histogram.magnitude * _FRACTIONS
        return range_up_to(histogram, float(highs[np.argmin(squared_errors(histogram, highs, levels))]))


@dataclass(frozen=True)
class Entropy:
    """Keeps the distribution's shape: least Kullback-Leibler divergence after quantization (Migacz, GTC 2017).

    Exact zeros are left out, because they are represented exactly at every range and would drown the rest after ReLU.
    """

    def __call__(self, histogram: Histogram, levels: int) -> Range:
        """Return the best range of whole bins among some 32 an octave, none with fewer bins than `levels`."""
        if histogram.magnitude <= FLOOR:
            return range_up_to(histogram, FLOOR)
        counts = _nonzero_counts(histogram)
        used = int(histogram.magnitude / histogram.width) + 1
        tried = np.rint(used * _FRACTIONS).astype(int)
        tried = np.append(used, tried[(tried >= levels) & (tried < used)])
        best = tried[np.argmin([_divergence(counts, bins, levels) for bins in tried])]
        return range_up_to(histogram, float(best) * histogram.width)


ESTIMATORS: dict[str, Estimator] = {
    "max": Max(),
    "percentile": Percentile(),
    "entropy": Entropy(),
    "mse": MeanSquaredError(),
}


AUTO = "auto"
"""Stands for all of them: whoever knows the network takes, for each tensor, the one with the least measured error."""


def estimator_named(name: str) -> Estimator:
    """Return the registered estimator. Raises CalibrationError, which lists the known names, for an unknown one."""
    if name not in ESTIMATORS:
        raise CalibrationError(
            f"No estimator is called {name!r}. Choose one of: {', '.join(sorted([AUTO, *ESTIMATORS]))}."
        )
    return ESTIMATORS[name]


def competing(name: str) -> dict[str, Estimator]:
    """Return the estimators that compete for a tensor: all of them for "auto", else the named one alone.

    Raises:
        CalibrationError: no estimator has that name.
    """
    if name == AUTO:
        return dict(ESTIMATORS)
    return {name: estimator_named(name)}


def range_up_to(histogram: Histogram, high: float) -> Range:
    """Return the range for a chosen `high`: at most the largest magnitude, at least `FLOOR`, signed as the tensor is.

    Raises:
        CalibrationError: nothing was counted.
    """
    if histogram.total == 0:
        raise CalibrationError(
            "A tensor was never observed, so it has no range. Run the model on the calibration images first, or take "
            "the tensor out of the placement."
        )
    high = max(min(high, histogram.magnitude), FLOOR)
    return Range(-high if histogram.signed else 0.0, high)


def squared_errors(histogram: Histogram, highs: npt.ArrayLike, levels: int) -> npt.NDArray[np.float64]:
    """Return the expected squared error of quantizing the tensor over each of `highs`.

    Values are taken as spread evenly within their bins, exact zeros as exact. The root of the result is within two bin
    widths of the true root mean squared error.

    Args:
        histogram: the tensor; not empty.
        highs: (N,) upper ends of the ranges, above 0, in units of the tensor.
        levels: steps between 0 and a high end.

    Returns:
        float64, (N,), squared units of the tensor.
    """
    steps = np.atleast_1d(np.asarray(highs, np.float64))[:, None] / (histogram.width * levels)
    edges = np.arange(BINS + 1)
    # The integral of the squared error from 0 to an edge: a twelfth of step ** 3 for each whole cell, and the rest.
    cells = np.minimum(np.rint(edges / steps), levels)
    integral = cells * steps**3 / 12 + (edges - cells * steps) ** 3 / 3
    errors = np.diff(integral, axis=1) @ _nonzero_counts(histogram)
    return np.asarray(errors * histogram.width**2 / histogram.total)


class RangeCollector:
    """Histograms of many tensors, filled image by image."""

    def __init__(self) -> None:
        """Start with no tensor."""
        self._histograms: dict[str, Histogram] = {}

    @property
    def histograms(self) -> Mapping[str, Histogram]:
        """The histogram of each tensor seen so far, in the order of first sight."""
        return self._histograms

    def observe(self, name: str, values: npt.ArrayLike) -> None:
        """Count the values of tensor `name` on one more image. Raises CalibrationError for NaN or infinity."""
        known = self._histograms.get(name, Histogram.empty())
        self._histograms[name] = known + Histogram.of(values, name)

    def ranges(self, estimator: Estimator, *, unsigned_levels: int = 255, signed_levels: int = 127) -> dict[str, Range]:
        """Return the range of each tensor; a tensor without a value below zero is unsigned."""
        return {
            name: estimator(histogram, signed_levels if histogram.signed else unsigned_levels)
            for name, histogram in self._histograms.items()
        }


def _nonzero_counts(histogram: Histogram) -> npt.NDArray[np.int64]:
    counts = histogram.counts.copy()
    counts[0] -= histogram.zeros
    return counts


def _divergence(counts: npt.NDArray[np.int64], bins: int, levels: int) -> float:
    """Divergence of the first `bins` bins, with the rest clipped into the last, from their average over `levels`."""
    inside = counts[:bins]
    clipped = inside.astype(np.float64)
    clipped[-1] += counts[bins:].sum()
    cell = np.arange(bins) * levels // bins
    filled = np.bincount(cell, inside > 0, levels)
    averaged = (np.bincount(cell, inside, levels) / np.maximum(filled, 1))[cell]
    seen = clipped > 0
    # Only the last bin can be empty inside and filled by clipping; half a value stands for "not seen".
    quantized = np.where(inside > 0, averaged, 0.5)[seen]
    reference = clipped[seen] / clipped.sum()
    return float(np.sum(reference * np.log(reference / (quantized / quantized.sum()))))
