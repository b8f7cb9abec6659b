"""The histogram is exact: it does not depend on order, cutting or powers of two."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blendmask_calibration import CalibrationError, Histogram
from blendmask_calibration.histogram import BINS

floats = st.one_of(
    st.floats(-(2.0**100), 2.0**100, width=32), st.floats(-8, 8, width=32), st.sampled_from([0.0, -0.0, 1.0, 2.0, -4.0])
)
tensors = arrays(np.float32, st.integers(0, 60), elements=floats)


def same(first: Histogram, second: Histogram) -> bool:
    return bool(np.array_equal(first.counts, second.counts)) and all(
        getattr(first, name) == getattr(second, name) for name in ("exponent", "minimum", "maximum", "zeros")
    )


@given(tensors, tensors)
def test_adding_equals_counting_together(first: np.ndarray, second: np.ndarray) -> None:
    together = Histogram.of(np.concatenate([first, second]))
    assert same(Histogram.of(first) + Histogram.of(second), together)
    assert same(Histogram.of(second) + Histogram.of(first), together)


@given(tensors, tensors, tensors)
def test_adding_is_associative_and_empty_is_neutral(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    first, second, third = Histogram.of(a), Histogram.of(b), Histogram.of(c)
    assert same((first + second) + third, first + (second + third))
    assert same(first + Histogram.empty(), first)


@given(tensors)
def test_extremes_zeros_and_total_are_exact(values: np.ndarray) -> None:
    histogram = Histogram.of(values.reshape(-1, 1))
    assert histogram.total == values.size
    assert histogram.zeros == np.count_nonzero(values == 0)
    assert histogram.minimum == min(values, default=math.inf)
    assert histogram.maximum == max(values, default=-math.inf)
    assert histogram.magnitude == max(abs(values), default=0)
    assert histogram.signed == any(values < 0)


@given(tensors)
def test_each_value_lies_in_its_bin(values: np.ndarray) -> None:
    histogram = Histogram.of(values)
    edges = np.arange(BINS + 1) * histogram.width
    assert np.array_equal(histogram.counts, np.histogram(np.abs(values.astype(np.float64)), edges)[0])


@given(arrays(np.float32, 30, elements=st.floats(0.125, 1e6, width=32)), st.integers(-40, 40))
def test_powers_of_two_change_the_width_and_not_the_counts(values: np.ndarray, power: int) -> None:
    plain, scaled = Histogram.of(values), Histogram.of(values * np.float32(2.0**power))
    assert np.array_equal(plain.counts, scaled.counts)
    assert scaled.exponent == plain.exponent + power


@given(arrays(np.float32, 30, elements=st.floats(0.125, 1e6, width=32)))
def test_the_largest_magnitude_lies_in_the_upper_half_of_the_bins(values: np.ndarray) -> None:
    assert np.flatnonzero(Histogram.of(values).counts)[-1] >= BINS // 2


def test_a_first_image_of_zeros_costs_no_resolution() -> None:
    assert (Histogram.of(np.zeros(5)) + Histogram.of([2.0**-20])).exponent == Histogram.of([2.0**-20]).exponent


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint8, np.int64])
def test_any_real_dtype_counts_alike(dtype: type) -> None:
    values = np.array([0, 1, 3, 100, 100], dtype)
    assert same(Histogram.of(values), Histogram.of(values.astype(np.float32)))


def test_the_least_int8_has_a_magnitude() -> None:
    assert Histogram.of(np.array([-128, 127], np.int8)).magnitude == 128


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_with_the_name_of_the_tensor(bad: float) -> None:
    with pytest.raises(CalibrationError, match=r"head\.tower: 1 of 3 values are NaN or infinite"):
        Histogram.of([1.0, bad, 2.0], "head.tower")


def test_counting_leaves_the_values_alone() -> None:
    values = np.array([-2.0, 3.0], np.float32)
    Histogram.of(values)
    assert values.tolist() == [-2.0, 3.0]
