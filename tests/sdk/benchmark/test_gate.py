"""What is planted in a bundle's answers is caught by `blendmask bench` itself: exit code, message and table.

The command runs from its words to its exit code; only the predictor, the reference workload and the clock are drawn
here, so that no load of the test machine matters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge.benchmark import measure as measuring
from blendmask_edge.benchmark.disturbance import CpuTimes
from blendmask_edge.benchmark.history import read_history
from blendmask_edge.benchmark.measure import WARM_UP
from blendmask_edge.cli.app import app
from blendmask_edge.instances import Instances
from tests.sdk.scenes import TYPICAL, FakePredictor, HandClock, Scenes

Bench = Callable[..., Any]
FRAMES = 48
_BASELINE: List[str] = []
"""The baseline of a run without a fault, once it was made."""


@dataclass
class Robot:
    """What the command meets: faults are planted between two runs."""

    scenes: Scenes
    clock: HandClock
    changes: Dict[str, Any]
    disturbed_runs: int = 0
    cores_of_others: float = 0.0

    def cpu_times(self) -> CpuTimes:
        """Stand for what the kernel counts on a machine with two cores."""
        seconds = self.clock.now
        return CpuTimes(total=2 * seconds, busy=self.cores_of_others * seconds, own=0.0, cores=2)

    def open(self, *_: object, **__: object) -> OpenedPredictor:
        """Stand for `MaskPredictor`."""
        return OpenedPredictor(self.scenes, self.clock, **self.changes)

    def reference(self, threads: int) -> Reference:
        """Stand for `Reference`."""
        del threads
        return Reference(self.clock, self)


class OpenedPredictor(FakePredictor):
    """A predictor that says what it runs."""

    manifest: Any = None
    runtime, variant = "onnxruntime", "cpu"

    def warm_up(self, image: Any) -> None:
        """Stand for `MaskPredictor.warm_up`, in no time."""

    def __enter__(self) -> OpenedPredictor:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Reference:
    """Work of four milliseconds; in a disturbed run, every fourth time three times as long."""

    def __init__(self, clock: HandClock, robot: Robot) -> None:
        self.clock, self.robot, self.calls = clock, robot, 0

    def __call__(self) -> None:
        self.calls += 1
        run = (self.calls - 1) // (WARM_UP + FRAMES)
        burst = run < self.robot.disturbed_runs and self.calls % 4 == 0
        self.clock.now += 0.012 if burst else 0.004

    def __enter__(self) -> Reference:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def robot(
    scenes: Scenes, make_manifest: Callable[..., Any], tiny_graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> Robot:
    """Return what the command meets, without a fault."""
    robot = Robot(scenes, HandClock(tick=0.0005), {})
    monkeypatch.setattr(OpenedPredictor, "manifest", make_manifest({"cpu": tiny_graph}))
    monkeypatch.setattr("blendmask_edge.benchmark.run.MaskPredictor", robot.open)
    monkeypatch.setattr("blendmask_edge.benchmark.run.Reference", robot.reference)
    measure = partial(measuring.measure, clock=robot.clock, cpu_times=robot.cpu_times, resamples=20)
    monkeypatch.setattr("blendmask_edge.benchmark.run.measure", measure)
    monkeypatch.setattr("blendmask_edge.benchmark.measure.peak_megabytes", lambda: 300.0)
    return robot


@pytest.fixture
def bench(robot: Robot, tmp_path: Path) -> Bench:
    """Return a function that runs the command against a baseline made without a fault."""
    fixed: List[object] = ["bench", "tiny.bmz", "--images", robot.scenes.folder]
    fixed += ["--annotations", robot.scenes.annotations, "--frames", FRAMES, "--baseline", tmp_path / "tiny.json"]
    fixed += ["--runtime", "onnxruntime"]

    def run(*words: object, **changes: Any) -> Any:
        robot.disturbed_runs = changes.pop("disturbed_runs", 0)
        robot.cores_of_others = changes.pop("cores_of_others", 0.0)
        robot.changes = {"seed": 1, **changes}
        return CliRunner().invoke(app, [str(word) for word in [*fixed, *words]], prog_name="blendmask")

    if _BASELINE:
        (tmp_path / "tiny.json").write_text(_BASELINE[0])
    else:
        assert run("--update-baseline", seed=0).exit_code == 0
        _BASELINE.append((tmp_path / "tiny.json").read_text())
    return run


def told(result: Any) -> Dict[str, str]:
    """Return the results of the table by metric, those within left out."""
    rows = [line.split() for line in result.output.splitlines() if line.endswith((" worse", " better"))]
    return {row[0]: row[-1] for row in rows}


def shifted(predicted: Instances) -> Instances:
    """Masks four cells to the right, boxes untouched."""
    return replace(predicted, mask_logits=np.roll(predicted.mask_logits, 4, axis=2))


def forgetful(predicted: Instances) -> Instances:
    """Every object but the last."""
    return predicted[:-1]


def test_run_without_a_fault_passes(bench: Bench) -> None:
    for seed in range(2, 5):
        result = bench(seed=seed)
        assert result.exit_code == 0, result.output
        assert told(result) == {}


@pytest.mark.parametrize(
    ("fault", "moved"),
    [
        ({"seconds": TYPICAL._replace(inference=1.2 * TYPICAL.inference)}, {"latency_ratio", "network_ratio"}),
        ({"change": forgetful}, {"mask_ap", "mask_ap75", "box_ap"}),
        ({"change": shifted}, {"mask_ap"}),
    ],
    ids=["slowdown", "loss of accuracy", "shifted masks"],
)
def test_planted_fault_fails_with_a_table_of_what_moved(bench: Bench, fault: Dict[str, Any], moved: set) -> None:
    result = bench(**fault)
    assert result.exit_code == 3
    assert told(result) == dict.fromkeys(moved, "worse")
    message = result.output.splitlines()[-1]
    assert message.startswith("error: Worse than the baseline allows: ")
    assert message.endswith("or accept it with --update-baseline.")
    assert all(f"{name} " in message for name in moved)


def test_what_became_much_better_fails_too(bench: Bench) -> None:
    result = bench(seconds=TYPICAL._replace(inference=0.5 * TYPICAL.inference))
    assert result.exit_code == 3
    assert told(result) == {"latency_ratio": "better", "network_ratio": "better"}
    assert "error: Better than the baseline allows: " in result.output


def test_what_was_accepted_passes_from_then_on(bench: Bench) -> None:
    fault = {"change": forgetful}
    assert bench("--update-baseline", **fault).exit_code == 0
    assert bench(**fault).exit_code == 0
    assert told(bench()) == dict.fromkeys(("mask_ap", "mask_ap75", "box_ap"), "better")


def test_a_disturbed_run_is_repeated_until_one_is_not(bench: Bench) -> None:
    result = bench(disturbed_runs=2)
    assert result.exit_code == 0, result.output
    assert "other work shares the cores" not in result.output


@pytest.mark.slow
def test_a_comparison_disturbed_every_time_is_inconclusive(bench: Bench) -> None:
    result = bench(disturbed_runs=3, seconds=TYPICAL._replace(inference=1.2 * TYPICAL.inference))
    assert result.exit_code == 4
    message = result.output.splitlines()[-1]
    assert message.startswith("error: Times cannot be compared with the baseline. The reference workload took")
    assert message.endswith("or compare accuracy alone with --accuracy-only.")
    document = json.loads(bench("--json", disturbed_runs=3).stdout.splitlines()[0])
    assert document["disturbances"]
    assert not document["passed"]


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "code"), [(1, 0), (2, 4), (None, 4)])
def test_one_thread_can_be_measured_beside_work_on_the_other_core(
    bench: Bench, threads: Optional[int], code: int
) -> None:
    words = ["--update-baseline"] + ([] if threads is None else ["--threads", str(threads)])
    result = bench(*words, cores_of_others=1.0)
    assert result.exit_code == code, result.output
    assert ("measure with one thread (--threads 1)" in " ".join(result.output.split())) == (code == 4)


def test_accuracy_lost_in_a_disturbed_run_is_a_regression(bench: Bench) -> None:
    assert bench(disturbed_runs=3, change=forgetful).exit_code == 3


def test_accuracy_alone_needs_no_quiet(bench: Bench) -> None:
    assert bench("--accuracy-only", disturbed_runs=3).exit_code == 0


@pytest.mark.slow
def test_a_baseline_is_not_written_from_disturbed_runs(bench: Bench, tmp_path: Path) -> None:
    before = (tmp_path / "tiny.json").read_bytes()
    result = bench("--update-baseline", disturbed_runs=3)
    assert result.exit_code == 4
    assert "tiny.json was not written: 3 of 5 runs were disturbed" in result.output
    assert (tmp_path / "tiny.json").read_bytes() == before
    assert bench("--update-baseline", disturbed_runs=2).exit_code == 0


@pytest.mark.parametrize("words", [(), ("--update-baseline",)])
def test_an_interrupted_run_leaves_the_baseline_as_it_was(bench: Bench, tmp_path: Path, words: tuple) -> None:
    def stopped(_: Instances) -> Instances:
        raise KeyboardInterrupt

    before = (tmp_path / "tiny.json").read_bytes()
    assert bench(*words, change=stopped).exit_code == 130
    assert (tmp_path / "tiny.json").read_bytes() == before
    assert [path.name for path in tmp_path.glob("*tiny*")] == ["tiny.json"]


def test_nothing_detected_is_measured_and_told(bench: Bench) -> None:
    nothing = {"change": lambda predicted: predicted[:0]}
    result = bench(**nothing)
    assert result.exit_code == 3
    assert "mask_ap75 not measured" in result.output
    assert bench("--update-baseline", **nothing).exit_code == 0
    assert bench(**nothing).exit_code == 0


def test_each_run_is_recorded_with_the_limits_that_it_left(bench: Bench, tmp_path: Path) -> None:
    history = tmp_path / "history"
    assert bench("--record", history, "--label", "good").exit_code == 0
    result = bench("--record", history, "--label", "bad", change=forgetful)
    assert result.exit_code == 3
    assert f"blendmask report {history}" in result.output
    runs = {run.label: run for run in read_history(history)}
    assert runs["good"].left == []
    assert {change.metric for change in runs["bad"].left} == {"mask_ap", "mask_ap75", "box_ap"}
    assert len(runs["bad"].record.latency_quantiles_ms) == 21


def test_a_disturbed_run_is_recorded_as_one(bench: Bench, tmp_path: Path) -> None:
    assert bench("--record", tmp_path / "history", disturbed_runs=3).exit_code == 4
    (run,) = read_history(tmp_path / "history")
    assert run.disturbances


def test_an_interrupted_run_is_not_recorded(bench: Bench, tmp_path: Path) -> None:
    def stopped(_: Instances) -> Instances:
        raise KeyboardInterrupt

    assert bench("--record", tmp_path / "history", change=stopped).exit_code == 130
    assert not (tmp_path / "history").exists()


def test_a_place_that_cannot_hold_records_is_refused_before_measuring(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = bench("--record", tmp_path / "file")
    assert result.exit_code == 1
    assert "is a file, expected a folder of records" in result.output
