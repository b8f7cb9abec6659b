"""Estimate the quantization range of a tensor from its histogram.

A range is [0, high] or [-high, high], because TensorRT accepts only zero point 0. Estimators take the number of
quantization steps between 0 and `high`: 255 for uint8 after ReLU, 127 for symmetric int8. Scale and zero point are
computed by the code that inserts the quantizers, not here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping, Protocol

import numpy as np
import numpy.typing as npt

from blendmask_calibration.errors import CalibrationError, require, require_number, require_whole
from blendmask_calibration.histogram import BINS, Histogram

# The least `high`: with it, the scale high / 255 is above zero even if a runtime stores it in half precision.
FLOOR = 2.0**-14
# Fractions of the largest magnitude to try: 32 per octave, eight octaves. Widest first, so that ties choose the widest.
_FRACTIONS = 2.0 ** (-np.arange(257) / 32)


@dataclass(frozen=True)
class Range:
    """The range over which a tensor is quantized.

    Attributes:
        low: 0 or `-high`, in units of the tensor.
        high: above 0, in units of the tensor.
    """

    low: float
    high: float


class Estimator(Protocol):
    """A callable that estimates a range from a histogram."""

    def __call__(self, histogram: Histogram, levels: int) -> Range:
        """Estimate the range.

        Args:
            histogram: values of the tensor.
            levels: number of quantization steps between 0 and the high end of the range.

        Raises:
            CalibrationError: the histogram is empty.
        """
        ...


@dataclass(frozen=True)
class Max:
    """Use the largest magnitude, so that nothing is clipped. Outliers determine the range."""

    def __call__(self, histogram: Histogram, levels: int) -> Range:  # noqa: ARG002
        """Return the range that contains every value; `levels` is ignored."""
        _require_histogram(histogram)
        return range_up_to(histogram, histogram.magnitude)


@dataclass(frozen=True)
class Percentile:
    """Clip a fixed share: use the narrowest range that contains `percentage` percent of the values.

    Args:
        percentage: above 0, at most 100.

    Raises:
        CalibrationError: `percentage` is out of range.
    """

    percentage: float = 99.99

    def __post_init__(self) -> None:
        """Validate the percentage."""
        require_number("percentage", self.percentage, 0, 100)

    def __call__(self, histogram: Histogram, levels: int) -> Range:  # noqa: ARG002
        """Return the range in whole bins; zeros count as values, and `levels` is ignored."""
        _require_histogram(histogram)
        inside = math.ceil(self.percentage / 100 * histogram.total)
        last = int(np.searchsorted(np.cumsum(histogram.counts), inside))
        return range_up_to(histogram, (last + 1) * histogram.width)


@dataclass(frozen=True)
class MeanSquaredError:
    """Minimize the expected squared error of clipping and rounding."""

    def __call__(self, histogram: Histogram, levels: int) -> Range:
        """Return the best of 257 ranges: the largest magnitude times 1 down to 1/256, in steps of 2 percent."""
        _require_histogram(histogram)
        require_whole("levels", levels)
        if histogram.magnitude <= FLOOR:
            return range_up_to(histogram, FLOOR)
        highs = histogram.magnitude * _FRACTIONS
        return range_up_to(histogram, float(highs[np.argmin(squared_errors(histogram, highs, levels))]))


@dataclass(frozen=True)
class Entropy:
    """Minimize the Kullback-Leibler divergence between the values before and after quantization (Migacz, GTC 2017).

    Zeros are ignored: every range represents them exactly, and after ReLU they would dominate the histogram.
    """

    def __call__(self, histogram: Histogram, levels: int) -> Range:
        """Return the best range of whole bins, of about 32 per octave with at least `levels` bins each."""
        _require_histogram(histogram)
        require_whole("levels", levels)
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
"""Name that selects, per tensor, the estimator with the least measured error."""


def estimator_named(name: str) -> Estimator:
    """Return an estimator of `ESTIMATORS` by name.

    Raises:
        CalibrationError: the name is unknown; the message lists the known ones.
    """
    if not isinstance(name, str) or name not in ESTIMATORS:
        raise CalibrationError(f"Unknown estimator {name!r}. Expected one of {', '.join(sorted([AUTO, *ESTIMATORS]))}.")
    return ESTIMATORS[name]


def competing(name: str) -> dict[str, Estimator]:
    """Return the estimators to compare: all of them for "auto", else only the named one.

    Raises:
        CalibrationError: the name is unknown.
    """
    if name == AUTO:
        return dict(ESTIMATORS)
    return {name: estimator_named(name)}


def range_up_to(histogram: Histogram, high: float) -> Range:
    """Return the range up to `high`, limited to the largest magnitude and to at least `FLOOR`.

    The range is signed if the tensor has negative values.

    Args:
        histogram: values of the tensor.
        high: requested high end, in units of the tensor.

    Raises:
        CalibrationError: the histogram is empty, or `high` is not a number.
    """
    _require_histogram(histogram)
    require_number("high", high)
    if histogram.total == 0:
        raise CalibrationError(
            "A tensor has no values to estimate a range from. Run the model on the calibration images first, or leave "
            "the tensor float."
        )
    high = max(min(high, histogram.magnitude), FLOOR)
    return Range(-high if histogram.signed else 0.0, high)


def squared_errors(histogram: Histogram, highs: npt.ArrayLike, levels: int) -> npt.NDArray[np.float64]:
    """Return the expected squared quantization error for several ranges.

    Values are assumed to be uniform within each bin, and zeros exact. The square root of the result is within two bin
    widths of the true root mean squared error.

    Args:
        histogram: values of the tensor; not empty.
        highs: (N,) high ends of the ranges, above 0, in units of the tensor.
        levels: number of quantization steps between 0 and a high end.

    Returns:
        (N,) float64, in squared units of the tensor.

    Raises:
        CalibrationError: an argument has another type or is out of range.
    """
    _require_histogram(histogram)
    require_whole("levels", levels)
    ends = np.atleast_1d(np.asarray(highs))
    require(ends.dtype.kind in "iuf" and bool((ends > 0).all()), "highs", highs, "numbers above 0")
    used = min(int(histogram.magnitude / histogram.width) + 1, BINS)
    counts, edges = _nonzero_counts(histogram)[:used].astype(np.float64), np.arange(used + 1, dtype=np.float64)
    steps = ends.astype(np.float64) / (histogram.width * levels)
    # One range at a time: its arrays fit in the processor's cache.
    errors = np.array([_squared_error(counts, edges, step, levels) for step in steps.tolist()])
    return np.asarray(errors * histogram.width**2 / histogram.total)


def _squared_error(counts: npt.NDArray[np.float64], edges: npt.NDArray[np.float64], step: float, levels: int) -> float:
    """Return the sum of squared errors of a step, in squared bins, by the integral of the error up to each edge.

    The integral is step ** 3 / 12 a whole step, and the remainder.
    """
    whole = np.minimum(np.rint(edges / step), levels)
    rest = edges - whole * step
    integral = whole * (step**3 / 12) + rest * rest * rest / 3
    return float(np.diff(integral) @ counts)


class RangeCollector:
    """Collect histograms of tensors over many images, and estimate their ranges."""

    def __init__(self) -> None:
        """Start without tensors."""
        self._histograms: dict[str, Histogram] = {}

    @property
    def histograms(self) -> Mapping[str, Histogram]:
        """Histograms by tensor name, in the order in which the tensors were first observed."""
        return self._histograms

    def observe(self, name: str, values: npt.ArrayLike) -> None:
        """Add the values of a tensor on one image.

        Args:
            name: name of the tensor.
            values: array of any shape and real dtype.

        Raises:
            CalibrationError: the name is not text, the values are not real numbers, or one is NaN or infinite.
        """
        require(isinstance(name, str), "name", name, "text")
        known = self._histograms.get(name, Histogram.empty())
        self._histograms[name] = known + Histogram.of(values, name)

    def ranges(self, estimator: Estimator, *, unsigned_levels: int = 255, signed_levels: int = 127) -> dict[str, Range]:
        """Estimate the range of each tensor.

        Args:
            estimator: range estimator, e.g. `estimator_named("mse")`.
            unsigned_levels: quantization steps between 0 and `high` of tensors without negative values.
            signed_levels: the same for tensors with negative values.

        Returns:
            Ranges by tensor name.

        Raises:
            CalibrationError: an argument has another type or is out of range, or a tensor has no values.
        """
        require(callable(estimator), "estimator", estimator, "an estimator such as estimator_named('mse')")
        require_whole("unsigned_levels", unsigned_levels)
        require_whole("signed_levels", signed_levels)
        return {
            name: estimator(histogram, signed_levels if histogram.signed else unsigned_levels)
            for name, histogram in self._histograms.items()
        }


def _require_histogram(histogram: object) -> None:
    require(isinstance(histogram, Histogram), "histogram", histogram, "a Histogram")


def _nonzero_counts(histogram: Histogram) -> npt.NDArray[np.int64]:
    counts = histogram.counts.copy()
    counts[0] -= histogram.zeros
    return counts


def _divergence(counts: npt.NDArray[np.int64], bins: int, levels: int) -> float:
    """Return the divergence of the first `bins` bins, the rest clipped into the last, from means over `levels`."""
    inside = counts[:bins]
    clipped = inside.astype(np.float64)
    clipped[-1] += counts[bins:].sum()
    level = np.arange(bins) * levels // bins
    filled = np.bincount(level, inside > 0, levels)
    averaged = (np.bincount(level, inside, levels) / np.maximum(filled, 1))[level]
    seen = clipped > 0
    # Only the last bin can be empty inside and filled by clipping; count it as half a value.
    quantized = np.where(inside > 0, averaged, 0.5)[seen]
    reference = clipped[seen] / clipped.sum()
    return float(np.sum(reference * np.log(reference / (quantized / quantized.sum()))))
