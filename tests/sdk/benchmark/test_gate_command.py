"""What is planted in a bundle's answers is caught by `blendmask bench` itself: exit code, message and table.

The command runs from its words to its exit code; only the predictor, the reference workload and the clock are drawn
here, so that no load of the test machine matters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge.benchmark import measure as measuring
from blendmask_edge.cli.app import app
from blendmask_edge.instances import Instances
from tests.sdk.scenes import TYPICAL, FakePredictor, HandClock, Scenes

Bench = Callable[..., Any]


@dataclass
class Robot:
    """What the command meets: faults are planted between two runs."""

    scenes: Scenes
    clock: HandClock
    changes: Dict[str, Any]

    def open(self, path: Path, runtime: str, threads: int, variant: Any) -> OpenedPredictor:
        """Stand for `MaskPredictor`."""
        del path, runtime, threads, variant
        return OpenedPredictor(self.scenes, self.clock, **self.changes)

    def reference(self, threads: int) -> Reference:
        """Stand for `Reference`."""
        del threads
        return Reference(self.clock)


class OpenedPredictor(FakePredictor):
    """A predictor that says what it runs."""

    manifest: Any = None
    runtime, variant = "onnxruntime", "cpu"

    def __enter__(self) -> OpenedPredictor:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Reference:
    """Work of four milliseconds."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock

    def __call__(self) -> None:
        self.clock.now += 0.004

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
    monkeypatch.setattr("blendmask_edge.benchmark.run.measure", partial(measuring.measure, clock=robot.clock))
    return robot


@pytest.fixture
def bench(robot: Robot, tmp_path: Path) -> Bench:
    """Return a function that runs the command against a baseline made without a fault."""
    fixed: List[object] = ["bench", "tiny.bmz", "--images", robot.scenes.folder]
    fixed += ["--annotations", robot.scenes.annotations, "--frames", 48, "--baseline", tmp_path / "tiny.json"]

    def run(*words: object, **changes: Any) -> Any:
        robot.changes = {"seed": 1, **changes}
        return CliRunner().invoke(app, [str(word) for word in [*fixed, *words]], prog_name="blendmask")

    assert run("--update-baseline", seed=0).exit_code == 0
    return run


def told(result: Any) -> Dict[str, str]:
    """Return the verdicts of the table by metric, those within left out."""
    rows = [line.split() for line in result.output.splitlines() if line.endswith((" worse", " better"))]
    return {row[0]: row[-1] for row in rows}


def shifted(found: Instances) -> Instances:
    """Masks four cells to the right, boxes untouched."""
    return replace(found, mask_logits=np.roll(found.mask_logits, 4, axis=2))


def forgetful(found: Instances) -> Instances:
    """Every object but the last."""
    return found[:-1]


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
    assert result.exit_code == 1
    assert told(result) == dict.fromkeys(moved, "worse")
    message = result.output.splitlines()[-1]
    assert message.startswith("error: Worse than the baseline allows: ")
    assert message.endswith("or accept it with --update-baseline.")
    assert all(f"{name} " in message for name in moved)


def test_what_became_much_better_fails_too(bench: Bench) -> None:
    result = bench(seconds=TYPICAL._replace(inference=0.5 * TYPICAL.inference))
    assert result.exit_code == 1
    assert told(result) == {"latency_ratio": "better", "network_ratio": "better"}
    assert "error: Better than the baseline allows: " in result.output


def test_what_was_accepted_passes_from_then_on(bench: Bench) -> None:
    fault = {"change": forgetful}
    assert bench("--update-baseline", **fault).exit_code == 0
    assert bench(**fault).exit_code == 0
    assert told(bench()) == dict.fromkeys(("mask_ap", "mask_ap75", "box_ap"), "better")
