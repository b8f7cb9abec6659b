"""Range estimators: what each of them promises, on any data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blendmask_calibration import (
    ESTIMATORS,
    CalibrationError,
    Histogram,
    Max,
    Percentile,
    Range,
    RangeCollector,
    estimator_named,
    squared_errors,
)
from blendmask_calibration.estimators import AUTO, FLOOR, competing

every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=list(ESTIMATORS))
steps = st.sampled_from([7, 127, 128, 255])
tensors = st.one_of(
    arrays(np.float32, st.integers(1, 200), elements=st.floats(-100, 100, width=32)),
    arrays(np.float32, st.integers(1, 200), elements=st.floats(0, 100, width=32)),
    st.builds(
        lambda seed, outlier: np.append(np.random.default_rng(seed).normal(size=500), outlier).astype(np.float32),
        st.integers(0, 99),
        st.floats(-1000, 1000),
    ),
)


def quantized(values: np.ndarray, high: float, levels: int) -> np.ndarray:
    step = high / levels
    return np.sign(values) * np.minimum(np.rint(np.abs(values) / step), levels) * step


def root_error(values: np.ndarray, high: float, levels: int) -> float:
    wide = values.astype(np.float64)
    return float(np.sqrt(np.mean((wide - quantized(wide, high, levels)) ** 2)))


@every_estimator
@given(tensors, steps)
def test_a_range_is_positive_within_the_data_and_signed_as_they_are(estimator, values: np.ndarray, levels: int) -> None:
    estimated = estimator(Histogram.of(values), levels)
    assert FLOOR <= estimated.high <= max(np.abs(values).max(), FLOOR)
    assert estimated.low == (-estimated.high if (values < 0).any() else 0.0)


@every_estimator
@given(arrays(np.float32, 100, elements=st.floats(-100, 100, width=32)), steps, st.integers(0, 30))
def test_data_scaled_by_a_power_of_two_scale_the_range(estimator, values: np.ndarray, levels: int, power: int) -> None:
    values = np.append(values, np.float32(1.0))
    plain = estimator(Histogram.of(values), levels)
    scaled = estimator(Histogram.of(values * np.float32(2.0**power)), levels)
    assert scaled == Range(plain.low * 2.0**power, plain.high * 2.0**power)


@every_estimator
@pytest.mark.parametrize("values", [np.zeros(10), np.full(10, 1e-30), np.full(10, -1e-30)], ids=["0", "+", "-"])
def test_a_silent_tensor_gets_a_range_whose_scale_survives_half_precision(estimator, values: np.ndarray) -> None:
    estimated = estimator(Histogram.of(values), 255)
    assert estimated.high == FLOOR
    assert np.float16(estimated.high / 255) > 0


@every_estimator
@pytest.mark.parametrize("constant", [0.3, 1.0, -7.7])
def test_a_constant_tensor_keeps_its_value(estimator, constant: float) -> None:
    estimated = estimator(Histogram.of(np.full(50, constant)), 127)
    assert quantized(np.array([constant]), estimated.high, 127)[0] == pytest.approx(constant, rel=1e-3)


@every_estimator
def test_a_tensor_never_observed_is_refused(estimator) -> None:
    with pytest.raises(CalibrationError, match="no values"):
        estimator(Histogram.empty(), 255)


@given(tensors)
def test_max_covers_every_value(values: np.ndarray) -> None:
    estimated = Max()(Histogram.of(values), 255)
    assert estimated.low <= values.min()
    assert values.max() <= estimated.high


@given(tensors, st.floats(0.1, 100), st.floats(0.1, 100))
def test_percentile_is_monotone_and_holds_its_share(values: np.ndarray, first: float, second: float) -> None:
    low, high = sorted([first, second])
    histogram = Histogram.of(values)
    assert Percentile(low)(histogram, 255).high <= Percentile(high)(histogram, 255).high
    inside = np.count_nonzero(np.abs(values) <= Percentile(high)(histogram, 255).high)
    assert inside >= math.ceil(high / 100 * values.size)


def test_percentile_leaves_a_rare_outlier_out() -> None:
    values = np.append(np.linspace(0, 1, 100_000), 500.0)
    histogram = Histogram.of(values)
    assert Percentile(99.99)(histogram, 255).high == pytest.approx(1.0, abs=histogram.width)
    assert Percentile(100)(histogram, 255).high == 500.0


@pytest.mark.parametrize("percentage", [0, -1, 100.1, math.nan])
def test_a_percentage_that_is_none_is_refused(percentage: float) -> None:
    with pytest.raises(CalibrationError, match="above 0 and at most 100"):
        Percentile(percentage)


@given(tensors, steps)
def test_mse_is_no_worse_than_max_on_the_values_themselves(values: np.ndarray, levels: int) -> None:
    histogram = Histogram.of(values)
    chosen = root_error(values, ESTIMATORS["mse"](histogram, levels).high, levels)
    widest = root_error(values, max(histogram.magnitude, FLOOR), levels)
    # Each side's expected error is within one bin width of its true one: no value moves further than its bin is wide.
    assert chosen <= widest + 2 * histogram.width


@given(tensors, steps, st.floats(0.05, 1))
def test_the_expected_error_is_the_true_one_up_to_a_bin(values: np.ndarray, levels: int, fraction: float) -> None:
    histogram = Histogram.of(values)
    high = max(histogram.magnitude, FLOOR) * fraction
    expected = math.sqrt(squared_errors(histogram, [high], levels)[0])
    assert expected == pytest.approx(root_error(values, high, levels), abs=1.001 * histogram.width)


@pytest.mark.parametrize("levels, clip", [(128, 3.92), (8, 2.55), (2, 1.71)])
def test_mse_finds_the_published_clipping_of_a_gaussian(levels: int, clip: float) -> None:
    """Banner et al. 2019 (ACIQ), table of optimal clipping for 8, 4 and 2 bits, in standard deviations."""
    values = np.random.default_rng(0).normal(size=400_000)
    assert ESTIMATORS["mse"](Histogram.of(values), levels).high == pytest.approx(clip, rel=0.04)


def test_entropy_clips_a_far_outlier_and_keeps_an_even_spread() -> None:
    even = np.linspace(0, 1, 200_000)
    assert ESTIMATORS["entropy"](Histogram.of(even), 127).high == pytest.approx(1.0, rel=0.03)
    assert ESTIMATORS["entropy"](Histogram.of(np.append(even, 6.0)), 127).high < 1.5


def test_exact_zeros_do_not_move_entropy_or_mse() -> None:
    values = np.abs(np.random.default_rng(1).normal(size=20_000))
    padded = np.append(values, np.zeros(1_000_000))
    for name in ("entropy", "mse"):
        assert ESTIMATORS[name](Histogram.of(values), 255) == ESTIMATORS[name](Histogram.of(padded), 255)


def test_an_unknown_estimator_is_refused_with_the_known_names() -> None:
    with pytest.raises(CalibrationError, match=r"'minmax'.*entropy, max, mse, percentile"):
        estimator_named("minmax")
    assert estimator_named("max") is ESTIMATORS["max"]


def test_all_estimators_compete_where_none_is_named() -> None:
    assert competing(AUTO) == ESTIMATORS
    assert competing("mse") == {"mse": ESTIMATORS["mse"]}
    with pytest.raises(CalibrationError, match="Expected one of auto, entropy"):
        competing("minmax")


def test_a_collector_gives_each_tensor_the_range_of_all_its_images() -> None:
    collector = RangeCollector()
    for scale in (1.0, 4.0, 2.0):
        collector.observe("relu", np.array([[0.0, scale]]))
        collector.observe("sum", np.array([-scale, scale / 2]))
    assert collector.ranges(Max()) == {"relu": Range(0.0, 4.0), "sum": Range(-4.0, 4.0)}
    assert collector.histograms["relu"].total == 6


def test_a_collector_tells_the_estimator_how_many_steps_each_tensor_has() -> None:
    collector = RangeCollector()
    collector.observe("relu", [1.0])
    collector.observe("sum", [-1.0])
    told = collector.ranges(lambda _, levels: Range(0.0, levels), unsigned_levels=200, signed_levels=100)
    assert {name: estimated.high for name, estimated in told.items()} == {"relu": 200, "sum": 100}


def test_a_collector_names_the_tensor_that_is_not_finite() -> None:
    with pytest.raises(CalibrationError, match="bases: 1 of 2"):
        RangeCollector().observe("bases", [0.0, math.nan])
