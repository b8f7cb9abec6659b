"""A histogram of magnitudes whose range grows with the data and whose sums are exact.

Bin widths are powers of two, and a wider bin is the sum of two narrower ones that starts at an even index. Therefore a
value is counted in the same final bin whatever was counted before: the result does not depend on the order or the
batches of the data, addition is exact, associative and commutative, and scaling by a power of two leaves the counts.

Magnitudes suffice, because ranges are [0, high] or [-high, high].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blendmask_calibration.errors import CalibrationError, require

BINS = 4096
_BIN_BITS = BINS.bit_length() - 1
# Keeps 2 ** -exponent within float32. All estimators treat such small magnitudes as zero.
_LEAST_EXPONENT = -100


@dataclass(frozen=True, eq=False)
class Histogram:
    """A histogram of the magnitudes of one tensor.

    Attributes:
        counts: (BINS,) int64; bin `i` counts values with `i * width <= abs(value) < (i + 1) * width`.
        exponent: the bin width is 2 ** exponent. The largest magnitude is in the upper half of the bins unless it is
            below 2 ** -88.
        minimum, maximum: exact signed extremes; inf and -inf for an empty histogram.
        zeros: number of values that equal zero; bin 0 counts them as well.
    """

    counts: npt.NDArray[np.int64]
    exponent: int
    minimum: float
    maximum: float
    zeros: int

    @classmethod
    def empty(cls) -> Histogram:
        """Return the empty histogram, the neutral element of `+`."""
        return cls(np.zeros(BINS, np.int64), _LEAST_EXPONENT, math.inf, -math.inf, 0)

    @classmethod
    def of(cls, values: npt.ArrayLike, name: str = "tensor") -> Histogram:
        """Return the histogram of an array.

        Args:
            values: array of any shape and real dtype.
            name: name of the tensor, for error messages.

        Raises:
            CalibrationError: the values are not real numbers, or one is NaN or infinite.
        """
        array = np.asarray(values)
        require(array.dtype.kind in "biuf", name, values, "an array of real numbers")
        if array.size == 0:
            return cls.empty()
        minimum, maximum = float(array.min()), float(array.max())
        _require_finite(array, minimum, maximum, name)
        exponent = _exponent_for(max(-minimum, maximum))
        magnitudes = np.abs(array.ravel(), dtype=array.dtype if array.dtype == np.float32 else np.float64)
        magnitudes *= magnitudes.dtype.type(2.0**-exponent)
        counts = np.bincount(magnitudes.astype(np.intp), minlength=BINS).astype(np.int64, copy=False)
        return cls(counts, exponent, minimum, maximum, int(array.size - np.count_nonzero(array)))

    def __add__(self, other: Histogram) -> Histogram:
        """Return the histogram of the values of both."""
        exponent = max(self.exponent, other.exponent)
        return Histogram(
            _coarser(self.counts, exponent - self.exponent) + _coarser(other.counts, exponent - other.exponent),
            exponent,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.zeros + other.zeros,
        )

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self.counts.sum())

    @property
    def width(self) -> float:
        """Width of a bin, in units of the tensor."""
        return 2.0**self.exponent

    @property
    def magnitude(self) -> float:
        """Exact largest `abs(value)`; 0 for an empty histogram."""
        return max(-self.minimum, self.maximum, 0.0)

    @property
    def signed(self) -> bool:
        """Whether any value is negative."""
        return self.minimum < 0


def _exponent_for(magnitude: float) -> int:
    """Return the exponent of the finest bins that cover `magnitude`."""
    if magnitude == 0:
        return _LEAST_EXPONENT
    return max(math.frexp(magnitude)[1] - _BIN_BITS, _LEAST_EXPONENT)


def _require_finite(array: npt.NDArray[np.generic], minimum: float, maximum: float, name: str) -> None:
    if math.isfinite(minimum) and math.isfinite(maximum):
        return
    bad = int(array.size - np.isfinite(array).sum())
    raise CalibrationError(
        f"{name}: {bad} of {array.size} values are NaN or infinite. Expected finite activations: check that the float "
        "model runs on this image and that its checkpoint is complete."
    )


def _coarser(counts: npt.NDArray[np.int64], doublings: int) -> npt.NDArray[np.int64]:
    """Merge neighboring bins `doublings` times; the number of bins stays."""
    merged = np.zeros_like(counts)
    group = 1 << min(doublings, _BIN_BITS)
    merged[: BINS // group] = counts.reshape(-1, group).sum(axis=1)
    return merged
