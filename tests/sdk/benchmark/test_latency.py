"""Percentiles, ratios and remarks follow the frames."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendmask_edge.benchmark.latency import Frame, outliers, remarks, summarize

seconds = st.floats(1e-4, 10)
frames = st.lists(st.builds(Frame, seconds, seconds, seconds, seconds, seconds), min_size=1, max_size=30)


def steady(count: int = 200) -> List[Frame]:
    """Return frames that differ by a few per cent."""
    rng = np.random.default_rng(0)
    return [Frame(*(np.array([2, 1, 30, 4, 5]) * rng.normal(1, 0.02, 5) / 1000)) for _ in range(count)]


def test_whole_frame_leaves_decoding_out() -> None:
    metrics = summarize([Frame(decode=0.5, preprocess=0.01, network=0.03, postprocess=0.02, reference=0.01)])
    assert metrics["latency_p50_ms"] == pytest.approx(60)
    assert metrics["decode_p99_ms"] == pytest.approx(500)
    assert metrics["latency_ratio"] == pytest.approx(6)
    assert metrics["network_ratio"] == pytest.approx(3)
    assert metrics["outside_share"] == pytest.approx(0.5)
    assert metrics["fps"] == pytest.approx(1000 / 60)


def test_ratio_evens_out_turns_of_the_scheduler_and_leaves_bursts_aside() -> None:
    """Beside three other processes a frame takes four times as long, a reference now and then much longer."""
    quiet = [Frame(0.0, 0.0, 0.030, 0.0, 0.004)] * 100
    crowded = [Frame(0.0, 0.0, 0.120, 0.0, 0.004 if place % 5 else 0.064) for place in range(100)]
    burst = crowded[:80] + [Frame(0.0, 0.0, 0.500, 0.0, 0.004)] * 20
    expected = summarize(quiet)["latency_ratio"]
    assert summarize(crowded)["latency_ratio"] == pytest.approx(expected)
    assert summarize(burst)["latency_ratio"] == pytest.approx(expected)


@given(frames)
def test_percentiles_are_in_order_and_inside_the_times(times: List[Frame]) -> None:
    metrics = summarize(times)
    for name in ("latency", "decode", "network", "reference"):
        p50, p90, p99 = (metrics[f"{name}_p{percent}_ms"] for percent in (50, 90, 99))
        values = [1000 * getattr(frame, name) for frame in times]
        assert min(values) * 0.999 <= p50 <= p90 <= p99 <= max(values) * 1.001


@given(frames, st.floats(0.1, 10))
def test_ratios_stay_when_everything_slows_alike(times: List[Frame], factor: float) -> None:
    slower = [
        Frame(*(factor * part for part in (t.decode, t.preprocess, t.network, t.postprocess, t.reference)))
        for t in times
    ]
    before, after = summarize(times), summarize(slower)
    for name in before:
        if name.endswith("_ratio") or name == "outside_share":
            assert after[name] == pytest.approx(before[name])
        elif name.endswith("_ms"):
            assert after[name] == pytest.approx(factor * before[name])


def test_outliers_are_those_far_away() -> None:
    values = np.array([10.0, 10.1, 9.9, 10.2, 9.8, 30.0, 10.0, 10.1])
    assert outliers(values).tolist() == [False] * 5 + [True, False, False]


def test_equal_values_have_no_outliers() -> None:
    assert not outliers(np.array([1.0, 1.0, 1.0, 5.0])).any()


def test_steady_frames_need_no_remark() -> None:
    assert remarks(steady()) == []


def test_disturbed_run_is_remarked() -> None:
    frames = steady()
    frames[50:70] = [Frame(0.002, 0.001, 0.3, 0.004, 0.005)] * 20
    (remark,) = remarks(frames)
    assert "20 of 200 frames are outliers" in remark
    assert "repeat" in remark


def test_few_frames_are_remarked() -> None:
    (remark,) = remarks(steady(40))
    assert "p99 of 40 frames" in remark
