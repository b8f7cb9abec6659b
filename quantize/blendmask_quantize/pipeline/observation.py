"""Observations of calibration as arrays that can be stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendmask_calibration.histogram import Histogram


def as_arrays(histograms: Mapping[str, Histogram], counts: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Histograms by name, and the number of instances in each image, as arrays.

    Args:
        histograms: of the tensors.
        counts: of the images.
    """
    ordered = list(histograms.values())
    return {
        "instances": np.array(counts, np.int64),
        "names": np.array(list(histograms)),
        "counts": np.array([histogram.counts for histogram in ordered]),
        "exponents": np.array([histogram.exponent for histogram in ordered]),
        "extremes": np.array([(histogram.minimum, histogram.maximum) for histogram in ordered]),
        "zeros": np.array([histogram.zeros for histogram in ordered]),
    }


def observation_of(arrays: Mapping[str, NDArray[Any]]) -> tuple[dict[str, Histogram], list[int]]:
    """The histograms and numbers that `as_arrays` gave."""
    rows = zip(
        arrays["names"].tolist(), arrays["counts"], arrays["exponents"].tolist(), arrays["extremes"].tolist(),
        arrays["zeros"].tolist(), strict=True,
    )  # fmt: skip
    histograms = {
        name: Histogram(counts, exponent, low, high, zeros) for name, counts, exponent, (low, high), zeros in rows
    }
    return histograms, arrays["instances"].tolist()
