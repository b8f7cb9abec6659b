"""What became worse is caught and named; what did not is left alone; what became much better asks to be recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Set, Tuple

import msgspec
import numpy as np
import pytest

from blendmask_edge.benchmark.baseline import Baseline, Limit, new_baseline
from blendmask_edge.benchmark.gate import BETTER, MISSING, WITHIN, WORSE, Change, compare, require_within
from blendmask_edge.benchmark.machine import this_machine
from blendmask_edge.benchmark.measure import measure
from blendmask_edge.benchmark.record import Data, Record, Setting, Subject
from blendmask_edge.errors import RegressionError
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.instances import Instances
from blendmask_edge.labels import Labels
from blendmask_edge.prediction.image_pipeline import Timings
from tests.sdk.scenes import LABELS, TYPICAL, FakePredictor, HandClock, Scenes

REFERENCE_SECONDS = 0.004


@dataclass
class Load:
    """How many times slower everything is than on a quiet machine."""

    factor: float = 1.0


def run(scenes: Scenes, load: Load = Load(), **changes: Any) -> Dict[str, float]:  # noqa: B008
    """Measure the fake predictor, changed, at a load, with jitter of its own."""
    clock = HandClock(tick=0.0005 * load.factor)
    frames = changes.pop("frames", 48)
    seconds = Timings(*(part * load.factor for part in changes.pop("seconds", TYPICAL)))
    predictor = FakePredictor(scenes, clock, seconds=seconds, seed=changes.pop("seed", 1), **changes)
    images = AnnotatedImages.open(scenes.folder, scenes.annotations, LABELS)

    def reference() -> None:
        clock.now += REFERENCE_SECONDS * load.factor

    return measure(
        predictor, images, reference, least_frames=frames, clock=clock, resamples=0, cpu_times=lambda: None
    ).metrics


@pytest.fixture
def baseline(scenes: Scenes) -> Baseline:
    """Return a baseline with the default limits."""
    subject = Subject(model="TINY", variant="cpu", graph_sha256="0" * 64, runtime="onnxruntime")
    data = Data(annotations="a.json", sha256="0" * 64, images=12)
    setting = Setting(subject=subject, data=data, machine=this_machine())
    record = Record(created="2026-01-01T00:00:00+00:00", setting=setting, frames=48, metrics=run(scenes, seed=0))
    return new_baseline(record)


def moved(baseline: Baseline, metrics: Dict[str, float]) -> Dict[str, Set[str]]:
    """Return the metrics by result, those within left out."""
    predicted: Dict[str, Set[str]] = {}
    for change in compare(baseline, metrics):
        predicted.setdefault(change.result, set()).add(change.metric)
    predicted.pop(WITHIN, None)
    return predicted


def shifted(predicted: Instances) -> Instances:
    """Masks a few cells to the right, boxes untouched."""
    return replace(predicted, mask_logits=np.roll(predicted.mask_logits, 4, axis=2))


def forgetful(predicted: Instances) -> Instances:
    """Every object but the last."""
    return predicted[:-1]


@pytest.mark.parametrize("seed", range(5))
def test_quiet_rerun_moves_nothing(scenes: Scenes, baseline: Baseline, seed: int) -> None:
    changes = compare(baseline, run(scenes, seed=seed + 10))
    assert {change.result for change in changes} == {WITHIN}
    require_within(changes)


def test_twice_the_load_moves_nothing(scenes: Scenes, baseline: Baseline) -> None:
    metrics = run(scenes, Load(2.0))
    assert metrics["latency_p50_ms"] > 1.8 * baseline.record.metrics["latency_p50_ms"]
    assert moved(baseline, metrics) == {}


def test_slower_network_is_caught(scenes: Scenes, baseline: Baseline) -> None:
    metrics = run(scenes, seconds=TYPICAL._replace(inference=1.2 * TYPICAL.inference))
    assert moved(baseline, metrics) == {WORSE: {"latency_ratio", "network_ratio"}}
    with pytest.raises(RegressionError, match=r"Worse than .*network_ratio .*was 6\.\d+, may be .*--update-baseline"):
        require_within(compare(baseline, metrics))


@pytest.mark.parametrize("stage", ["preprocess", "postprocess"])
def test_slow_stage_is_caught_though_the_whole_hardly_moves(scenes: Scenes, baseline: Baseline, stage: str) -> None:
    slow = TYPICAL._replace(**{stage: getattr(TYPICAL, stage) + 0.003})
    assert moved(baseline, run(scenes, seconds=slow))[WORSE] == {f"{stage}_ratio"}


def test_lost_instances_are_caught(scenes: Scenes, baseline: Baseline) -> None:
    assert moved(baseline, run(scenes, change=forgetful)) == {WORSE: {"mask_ap", "mask_ap75", "box_ap"}}


def test_shifted_masks_are_caught_with_boxes_untouched(scenes: Scenes, baseline: Baseline) -> None:
    metrics = run(scenes, change=shifted)
    assert metrics["box_ap"] == baseline.record.metrics["box_ap"]
    assert "mask_ap" in moved(baseline, metrics)[WORSE]


def test_nothing_found_is_caught(scenes: Scenes, baseline: Baseline) -> None:
    predicted = moved(baseline, run(scenes, change=lambda predicted: predicted[:0]))
    assert predicted == {WORSE: {"mask_ap", "box_ap"}, MISSING: {"mask_ap75"}}
    with pytest.raises(RegressionError, match="mask_ap75 not measured"):
        require_within(compare(baseline, run(scenes, change=lambda predicted: predicted[:0])))


def test_hiccup_in_every_tenth_frame_is_caught(scenes: Scenes, baseline: Baseline) -> None:
    metrics = run(scenes, hiccup=2 * sum(TYPICAL))
    assert metrics["latency_p50_ms"] < 1.05 * baseline.record.metrics["latency_p50_ms"]
    assert "latency_ratio" in moved(baseline, metrics)[WORSE]


@pytest.mark.slow
def test_grown_memory_is_caught_whatever_else_disturbs_the_machine(scenes: Scenes, baseline: Baseline) -> None:
    before = baseline.record.metrics.get("memory_mb")
    if before is None:
        pytest.skip("this system does not tell the peak of memory")
    kept: List[np.ndarray] = []

    def leak(predicted: Instances) -> Instances:
        kept.append(np.ones(int(0.03 * before * 1e6), np.uint8))
        return predicted

    metrics = run(scenes, change=leak)
    assert moved(baseline, metrics)[WORSE] == {"memory_mb"}
    with pytest.raises(RegressionError, match="memory_mb"):
        require_within(compare(baseline, metrics), disturbances=["Other processes took the cores."])


def test_tail_is_limited_where_enough_frames_were_timed(scenes: Scenes) -> None:
    few, many = run(scenes), run(scenes, frames=120)
    assert "latency_p99_ratio" not in few
    assert many["latency_p99_ratio"] == pytest.approx(many["latency_p99_ms"] / many["reference_p50_ms"])
    assert run(scenes, frames=120, hiccup=0.1)["latency_p99_ratio"] > 2 * many["latency_p99_ratio"]


def test_limit_of_the_tail_is_left_out_of_a_run_of_few_frames(scenes: Scenes, baseline: Baseline) -> None:
    many = new_baseline(msgspec.structs.replace(baseline.record, metrics=run(scenes, frames=120, seed=0)))
    assert "latency_p99_ratio" in many.limits
    changes = compare(many, run(scenes))
    assert {change.metric for change in changes} == set(many.limits) - {"latency_p99_ratio"}
    require_within(changes)
    slow = compare(many, run(scenes, frames=120, hiccup=0.1))
    assert "latency_p99_ratio" in {change.metric for change in slow if change.result == WORSE}


def test_much_better_asks_to_be_recorded(scenes: Scenes, baseline: Baseline) -> None:
    metrics = run(scenes, seconds=TYPICAL._replace(inference=0.5 * TYPICAL.inference))
    assert moved(baseline, metrics) == {BETTER: {"latency_ratio", "network_ratio"}}
    with pytest.raises(RegressionError, match=r"Better than .*record it with --update-baseline"):
        require_within(compare(baseline, metrics))


def test_accuracy_alone_leaves_time_out(scenes: Scenes, baseline: Baseline) -> None:
    metrics = run(scenes, seconds=TYPICAL._replace(inference=1.0))
    changes = compare(baseline, metrics, accuracy_only=True)
    assert [change.metric for change in changes] == ["mask_ap", "mask_ap75", "box_ap"]
    require_within(changes)


@pytest.mark.parametrize(
    ("metric", "now", "result"),
    [
        ("mask_ap", 0.39, WITHIN),
        ("mask_ap", 0.35, WORSE),
        ("mask_ap", 0.45, BETTER),
        ("latency_p99_ms", 0.45, WORSE),
        ("latency_p99_ms", 0.35, BETTER),
        ("fps", 0.35, WORSE),
    ],
)
def test_more_is_better_for_accuracy_and_frames_and_worse_for_time(metric: str, now: float, result: str) -> None:
    assert Change(metric, 0.4, now, 0.38, 0.42).result == result


def test_hand_written_limit_on_milliseconds_is_obeyed(scenes: Scenes, baseline: Baseline) -> None:
    strict = Baseline(limits={"latency_p99_ms": Limit(worse=0.1, better=1.0)}, record=baseline.record)
    assert moved(strict, run(scenes, Load(2.0))) == {WORSE: {"latency_p99_ms"}}


def test_frames_are_whole_rounds_and_warm_up_does_not_count(scenes: Scenes) -> None:
    clock = HandClock()
    predictor = FakePredictor(scenes, clock)
    images = AnnotatedImages.open(scenes.folder, scenes.annotations, Labels(LABELS.names, LABELS.category_ids))
    seen: Tuple[int, ...] = ()

    def track(ids: Any) -> Any:
        nonlocal seen
        seen = tuple(ids)
        return ids

    measured = measure(predictor, images, lambda: None, least_frames=13, clock=clock, track=track, resamples=0)
    assert measured.frames == 24
    assert list(seen) == [*range(1, 13)] * 2
    assert predictor.calls == [1, 2, 3, 4, 5, *seen]
    assert measured.metrics["mask_ap"] == pytest.approx(1, abs=1e-6)
