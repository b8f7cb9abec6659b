"""Several predictors see each image in turn, and each is measured as if it were alone."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import pytest

from blendmask_edge.benchmark.measure import WARM_UP, measure, measure_in_turn
from blendmask_edge.evaluation.annotations import AnnotatedImages
from tests.sdk.scenes import TYPICAL, FakePredictor, HandClock, Scenes


def reference_of(clock: HandClock) -> Any:
    def reference() -> None:
        clock.now += 0.004

    return reference


def test_each_image_is_shown_to_all_in_alternating_order_after_a_rest(scenes: Scenes, clock: HandClock) -> None:
    images = AnnotatedImages.open(scenes.folder, scenes.annotations)
    order: List[str] = []
    rests: List[float] = []

    class Named(FakePredictor):
        name = ""

        def __call__(self, image: np.ndarray) -> Any:
            order.append(self.name)
            return super().__call__(image)

    slow = TYPICAL._replace(inference=2 * TYPICAL.inference)
    first, second = Named(scenes, clock), Named(scenes, clock, change=lambda instances: instances[:-1], seconds=slow)
    first.name, second.name = "first", "second"
    quick, late = measure_in_turn(
        [first, second], images, reference_of(clock), 24, clock, resamples=0, cpu_times=lambda: None, sleep=rests.append
    )
    assert order[2 * WARM_UP :][:4] == ["first", "second", "second", "first"]
    assert (quick.frames, late.frames, len(rests)) == (24, 24, 48)
    assert late.metrics["network_p50_ms"] == pytest.approx(2 * quick.metrics["network_p50_ms"], rel=0.02)
    assert quick.metrics["mask_ap"] > late.metrics["mask_ap"]
    assert len(quick.results) == 48
    assert len(late.results) == 36
    assert quick.latency_quantiles_ms == sorted(quick.latency_quantiles_ms)
    assert quick.latency_quantiles_ms[10] == pytest.approx(quick.metrics["latency_p50_ms"], abs=1e-3)


def test_one_predictor_alone_never_rests(scenes: Scenes, clock: HandClock) -> None:
    images = AnnotatedImages.open(scenes.folder, scenes.annotations)

    def no_rest(_: float) -> None:
        raise AssertionError("rested")

    alone = measure_in_turn(
        [FakePredictor(scenes, clock)], images, reference_of(clock), 12, clock, resamples=0, cpu_times=lambda: None,
        sleep=no_rest,
    )[0]  # fmt: skip
    same = measure(
        FakePredictor(scenes, clock), images, reference_of(clock), 12, clock, resamples=0, cpu_times=lambda: None
    )
    accuracy = {name for name in alone.metrics if "_ap" in name}
    assert {name: alone.metrics[name] for name in accuracy} == {name: same.metrics[name] for name in accuracy}


def test_without_annotations_only_time_is_measured(scenes: Scenes, clock: HandClock) -> None:
    annotated = AnnotatedImages.open(scenes.folder, scenes.annotations)

    class Plain:
        ids = annotated.ids

        def read(self, image_id: int) -> Any:
            return annotated.read(image_id)

    (measured,) = measure_in_turn(
        [FakePredictor(scenes, clock)], Plain(), reference_of(clock), 12, clock, cpu_times=lambda: None
    )
    assert not [name for name in measured.metrics if "_ap" in name]
    assert measured.metrics["fps"] > 0
    assert len(measured.results) == sum(map(len, scenes.instances.values()))
