"""`auto` takes the quickest runtime that can, tries each once per machine, and falls back when one is gone."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest

from blendmask_edge import (
    BundleError,
    ConfigError,
    InferenceError,
    MaskPredictor,
    OutputError,
    RuntimeUnavailableError,
)
from blendmask_edge.bundle import Manifest, Outputs, write_bundle
from blendmask_edge.runtimes.registry import RUNTIMES, RuntimeRow
from blendmask_edge.runtimes.trial import LEAST_RUNS, MOST_RUNS, WARM_UP_RUNS, measure

EMPTY = Outputs(
    np.zeros((1, 1, 4), np.float32),
    np.zeros((1, 1), np.float32),
    np.full((1, 1), -1, np.int32),
    np.zeros((1, 1, 56, 56), np.float32),
)


class Clock:
    """Time that passes only when a session runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """Runtimes of the stage: how long a run of each takes, what fails, and what happened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.seconds: Dict[str, float] = {}
        self.errors: Dict[str, Exception] = {}
        self.failing_runs: Dict[str, Exception] = {}
        self.loads: List[str] = []
        self.open: List[str] = []
        self._monkeypatch = monkeypatch
        self._rows: List[RuntimeRow] = []
        monkeypatch.setattr(
            "blendmask_edge.runtimes.auto_select.measure", lambda session, image: measure(session, image, self.clock)
        )

    def add(self, name: str, seconds: float, **changes: Any) -> None:
        """Put a runtime on the stage, one run of which takes `seconds`."""
        module: Any = types.ModuleType(f"stage_{name}")
        module.load = lambda *_: self._load(name)
        self._monkeypatch.setitem(sys.modules, module.__name__, module)
        self.seconds[name] = seconds
        row = RuntimeRow(name, module.__name__, "json", ("cpu", "float"), "cpu")
        self._rows = [known for known in self._rows if known.name != name] + [replace(row, **changes)]
        self._monkeypatch.setattr("blendmask_edge.runtimes.registry.RUNTIMES", tuple(self._rows))

    def _load(self, name: str) -> Any:
        self.loads.append(name)
        if name in self.errors:
            raise self.errors[name]
        self.open.append(name)
        return Session(self, name)


class Session:
    """A session whose runs take the time that the stage says."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name, self.runs = stage, name, 0

    def run(self, image: Any) -> Outputs:
        assert (image.dtype, image.shape) == (np.uint8, (1, 32, 48, 3))
        self.runs += 1
        self.stage.clock.now += self.stage.seconds[self.name] * (10 if self.runs <= WARM_UP_RUNS else 1)
        if self.name in self.stage.failing_runs:
            raise self.stage.failing_runs[self.name]
        return EMPTY

    def close(self) -> None:
        if self.name in self.stage.open:
            self.stage.open.remove(self.name)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Return a stage with a slow and a quick runtime."""
    stage = Stage(monkeypatch)
    stage.add("slow", 0.02)
    stage.add("quick", 0.01)
    return stage


def test_the_quickest_is_taken_and_the_others_are_closed(stage: Stage, bundle_path: Path) -> None:
    stage.add("slowest", 0.03)
    with MaskPredictor(bundle_path) as predictor:
        assert (predictor.runtime, predictor.variant) == ("quick", "cpu")
        assert stage.open == ["quick"]
    assert stage.loads == ["slow", "quick", "slowest"]


def test_the_choice_is_remembered(stage: Stage, bundle_path: Path, own_cache: Path) -> None:
    MaskPredictor(bundle_path).close()
    stage.loads.clear()
    stage.seconds["quick"] = 1
    with MaskPredictor(bundle_path) as predictor:
        assert predictor.runtime == "quick"
    assert stage.loads == ["quick"]
    assert len(list(own_cache.rglob("*.json"))) == 1


def test_runtimes_of_this_machine_are_measured_once_and_agree(
    bundle_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package)
    rows = [row for row in RUNTIMES if row.name in ("onnxruntime", "openvino")]
    monkeypatch.setattr("blendmask_edge.runtimes.registry.RUNTIMES", tuple(rows))
    pixels, measured = np.full((32, 48, 3), (250, 60, 40), np.uint8), []

    def counted(session: Any, image: np.ndarray) -> float:
        measured.append(type(session).__name__)
        return measure(session, image)

    monkeypatch.setattr("blendmask_edge.runtimes.auto_select.measure", counted)
    answers = []
    for asked in ("auto", "auto", "onnxruntime", "openvino"):
        with MaskPredictor(bundle_path, asked, threads=1) as predictor:
            answers.append((predictor.runtime, predictor(pixels)))
    assert measured == ["OnnxRuntimeSession", "OpenVinoSession"]
    kept = json.loads(next((own_cache / "runtimes").iterdir()).read_text())
    quickest = min(kept["seconds"], key=kept["seconds"].get)
    assert [runtime for runtime, _ in answers] == [quickest, quickest, "onnxruntime", "openvino"]
    for _, found in answers:
        np.testing.assert_allclose(found.scores, answers[0][1].scores, rtol=1e-4)
        np.testing.assert_array_equal(found.masks, answers[0][1].masks)


@pytest.mark.parametrize("change", ["threads", "version", "another runtime", "another graph", "another processor"])
def test_whatever_decides_on_speed_asks_for_a_new_trial(
    change: str,
    stage: Stage,
    bundle_path: Path,
    tmp_path: Path,
    tiny_graph: bytes,
    make_manifest: Callable[..., Manifest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    MaskPredictor(bundle_path, threads=1).close()
    path, threads = bundle_path, 1
    if change == "threads":
        threads = 2
    elif change == "version":
        stage.add("quick", 0.01, distributions=("numpy",))
    elif change == "another runtime":
        stage.add("third", 0.03)
    elif change == "another processor":
        monkeypatch.setattr("blendmask_edge.hardware.cpu._CPU_INFO", tmp_path / "none")
        monkeypatch.setattr("platform.processor", lambda: "Z80")
    else:
        graphs = {"cpu": tiny_graph + b"\x12\x00"}
        path = write_bundle(tmp_path / "b.bmz", make_manifest(graphs), graphs)
    stage.seconds["quick"] = 1
    with MaskPredictor(path, threads=threads) as predictor:
        assert predictor.runtime == "slow"


def test_another_file_with_the_same_graphs_needs_no_new_trial(
    stage: Stage, bundle_path: Path, tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    MaskPredictor(bundle_path).close()
    graphs = {"cpu": tiny_graph}
    path = write_bundle(tmp_path / "b.bmz", make_manifest(graphs, license="MIT"), graphs)
    stage.loads.clear()
    MaskPredictor(path).close()
    assert stage.loads == ["quick"]


def test_remembered_runtime_that_fails_asks_for_a_new_trial(stage: Stage, bundle_path: Path) -> None:
    MaskPredictor(bundle_path).close()
    stage.errors["quick"] = RuntimeUnavailableError("The GPU has gone.")
    with MaskPredictor(bundle_path) as predictor:
        assert predictor.runtime == "slow"


@pytest.mark.parametrize("content", [b"", b"{", b'{"runtime": 3}', b'{"runtime": "gone", "seconds": {}}', b"\xff"])
def test_damaged_memory_asks_for_a_new_trial(content: bytes, stage: Stage, bundle_path: Path, own_cache: Path) -> None:
    MaskPredictor(bundle_path).close()
    next(own_cache.rglob("*.json")).write_bytes(content)
    with MaskPredictor(bundle_path) as predictor:
        assert predictor.runtime == "quick"
    assert stage.loads == ["slow", "quick"] * 2


def test_cache_that_cannot_be_written_is_no_error(
    stage: Stage, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        with MaskPredictor(bundle_path) as predictor:
            assert predictor.runtime == "quick"
    assert stage.loads == ["slow", "quick"] * 2


def test_one_runtime_needs_no_trial(bundle_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.add("only", 0.01)
    with MaskPredictor(bundle_path) as predictor:
        assert predictor.runtime == "only"
    assert stage.clock.now == 0
    assert not own_cache.exists()


def test_runtime_that_is_not_ready_is_not_tried(stage: Stage, bundle_path: Path) -> None:
    stage.add("gpu", 0.001, ready=lambda _: False)
    MaskPredictor(bundle_path).close()
    assert "gpu" not in stage.loads


def test_runtime_that_is_not_ready_speaks_for_itself_when_alone(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(monkeypatch)
    stage.add("gpu", 0.001, ready=lambda _: False)
    stage.errors["gpu"] = RuntimeUnavailableError("No NVIDIA driver.")
    with pytest.raises(RuntimeUnavailableError, match="No NVIDIA driver"):
        MaskPredictor(bundle_path)


@pytest.mark.parametrize("error", [InferenceError("Refused."), OutputError("Full."), ConfigError("Unknown GPU.")])
def test_runtime_that_fails_loses_and_is_logged(
    error: Exception, stage: Stage, bundle_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage.errors["quick"] = error
    with MaskPredictor(bundle_path) as predictor:
        assert predictor.runtime == "slow"
    assert f"quick is installed but takes no part: {error}" in caplog.text


def test_runtime_whose_first_run_fails_loses_and_is_closed(stage: Stage, bundle_path: Path) -> None:
    stage.failing_runs["quick"] = InferenceError("Out of memory.")
    with MaskPredictor(bundle_path) as predictor:
        assert predictor.runtime == "slow"
        assert stage.open == ["slow"]


@pytest.mark.parametrize(
    "second, expected",
    [(InferenceError("B."), InferenceError), (RuntimeUnavailableError("B."), RuntimeUnavailableError)],
)
def test_when_all_fail_one_message_has_every_reason(
    second: Exception, expected: Any, stage: Stage, bundle_path: Path
) -> None:
    stage.errors = {"slow": RuntimeUnavailableError("A."), "quick": second}
    with pytest.raises(expected, match=r"slow: A\. quick: B\."):
        MaskPredictor(bundle_path)


def test_each_runtime_is_tried_with_the_variant_that_it_prefers(
    stage: Stage, tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"cpu": tiny_graph, "tensorrt": tiny_graph + b"\x12\x00"}
    path = write_bundle(tmp_path / "a.bmz", make_manifest(graphs), graphs)
    stage.add("gpu", 0.001, variants=("tensorrt", "float"))
    with MaskPredictor(path) as predictor:
        assert (predictor.runtime, predictor.variant) == ("gpu", "tensorrt")


def test_named_variant_leaves_those_that_run_it(
    stage: Stage, tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"cpu": tiny_graph, "tensorrt": tiny_graph + b"\x12\x00"}
    path = write_bundle(tmp_path / "a.bmz", make_manifest(graphs), graphs)
    stage.add("slow", 0.02, also=("tensorrt",))
    with MaskPredictor(path, variant="tensorrt") as predictor:
        assert (predictor.runtime, predictor.variant) == ("slow", "tensorrt")
    assert stage.loads == ["slow"]


def test_variant_that_is_only_run_when_named_is_suggested(
    stage: Stage, tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"tensorrt": tiny_graph}
    path = write_bundle(tmp_path / "a.bmz", make_manifest(graphs), graphs)
    stage.add("slow", 0.02, also=("tensorrt",))
    with pytest.raises(
        BundleError, match=r"quick runs cpu or float; slow runs cpu or float.*name the variant tensorrt"
    ):
        MaskPredictor(path)


def test_broken_graph_is_not_blamed_on_a_runtime(stage: Stage, rewrite: Callable[..., Path]) -> None:
    path = rewrite({"cpu.onnx": None})
    with pytest.raises(BundleError):
        MaskPredictor(path)
    assert not stage.loads


@pytest.mark.parametrize("seconds, runs", [(0.01, MOST_RUNS), (0.2, LEAST_RUNS), (10.0, LEAST_RUNS)])
def test_trial_is_short_and_leaves_the_warm_up_out(seconds: float, runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.seconds["one"] = seconds
    session = Session(stage, "one")
    assert measure(session, np.zeros((1, 32, 48, 3), np.uint8), stage.clock) == pytest.approx(seconds)
    assert session.runs == WARM_UP_RUNS + runs
