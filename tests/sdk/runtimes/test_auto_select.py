"""`auto` times every runtime that can on the first frame with instances, and falls back when one is gone."""

from __future__ import annotations

import sys
import time
import types
from dataclasses import replace
from functools import partial
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
from blendmask_edge.runtimes.base import Signature, TensorType
from blendmask_edge.runtimes.registry import RUNTIMES, RuntimeRow
from blendmask_edge.runtimes.shared import PATIENCE, LoadedGraph
from blendmask_edge.runtimes.trial import LEAST_TURNS, MOST_TURNS, compare

SIGNATURE = Signature(
    {"image": TensorType("uint8", (1, 32, 48, 3))},
    {
        "boxes": TensorType("float32", (1, None, 4)),
        "scores": TensorType("float32", (1, None)),
        "class_ids": TensorType("int32", (1, None)),
        "mask_logits": TensorType("float32", (1, None, 56, 56)),
    },
)
WARM_UP_RUNS = 2
FRAME = np.full((32, 48, 3), 255, np.uint8)
DARK = np.zeros_like(FRAME)


def outputs_of(image: np.ndarray) -> Outputs:
    """Return one instance, the surer the brighter the image, and three empty rows."""
    scores = np.array([[image.mean() / 255, 0, 0, 0]], np.float32)
    boxes, logits = np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 56, 56), np.float32)
    boxes[..., 2:] = 8
    return Outputs(boxes, scores, np.array([[0, -1, -1, -1]], np.int32), logits)


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
        self.outputs: Dict[str, Callable[..., Outputs]] = {}
        self.loads: List[str] = []
        self.open: List[str] = []
        self._monkeypatch = monkeypatch
        self._rows: List[RuntimeRow] = []
        self.compare = partial(compare, clock=self.clock, sleep=lambda _: None)
        monkeypatch.setattr("blendmask_edge.runtimes.auto_select.compare", self.compare)

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

    signature = SIGNATURE

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name, self.runs = stage, name, 0

    def run(self, image: Any) -> Outputs:
        assert (image.dtype, image.shape) == (np.uint8, (1, 32, 48, 3))
        self.runs += 1
        self.stage.clock.now += self.stage.seconds[self.name] * (10 if self.runs <= WARM_UP_RUNS else 1)
        if self.name in self.stage.failing_runs:
            raise self.stage.failing_runs[self.name]
        return self.stage.outputs.get(self.name, outputs_of)(image)

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


def chosen(path: Path, **options: Any) -> str:
    """Return the runtime that a predictor uses after a frame with an instance."""
    with MaskPredictor(path, **options) as predictor:
        predictor(FRAME)
        return predictor.runtime


def test_the_quickest_is_taken_and_the_others_are_closed(stage: Stage, bundle_path: Path) -> None:
    stage.add("slowest", 0.03)
    with MaskPredictor(bundle_path) as predictor:
        assert (predictor.runtime, stage.open) == ("slow", ["slow", "quick", "slowest"])
        assert len(predictor(FRAME)) == 1
        assert (predictor.runtime, predictor.variant, stage.open) == ("quick", "cpu", ["quick"])
    assert stage.open == []


@pytest.mark.usefixtures("stage")
def test_frames_without_a_sure_instance_decide_nothing(bundle_path: Path, own_cache: Path) -> None:
    with MaskPredictor(bundle_path) as predictor:
        for _ in range(PATIENCE - 1):
            predictor(DARK)
        assert predictor.runtime == "slow"
        assert not own_cache.exists()
        predictor(FRAME)
        assert predictor.runtime == "quick"


def test_a_camera_that_sees_nothing_is_decided_for_at_last(stage: Stage, bundle_path: Path) -> None:
    with MaskPredictor(bundle_path) as predictor:
        for _ in range(PATIENCE):
            predictor(DARK)
        assert stage.open == ["quick"]


@pytest.mark.usefixtures("stage")
def test_warm_up_with_a_frame_decides_and_without_one_does_not(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path) as predictor:
        predictor.warm_up(3)
        assert predictor.runtime == "slow"
        predictor.warm_up(image=DARK)
        assert predictor.runtime == "quick"


def test_the_choice_is_remembered(stage: Stage, bundle_path: Path, own_cache: Path) -> None:
    chosen(bundle_path)
    stage.loads.clear()
    stage.seconds["quick"] = 1
    with MaskPredictor(bundle_path) as predictor:
        assert predictor.runtime == "quick"
    assert stage.loads == ["quick"]
    assert len(list((own_cache / "runtimes").iterdir())) == 1


@pytest.mark.parametrize("days, runtime", [(29, "quick"), (31, "slow"), (-1, "slow")])
def test_the_choice_expires(
    days: float, runtime: str, stage: Stage, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(bundle_path)
    stage.seconds["quick"] = 1
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 86400 * days)
    assert chosen(bundle_path) == runtime
    assert chosen(bundle_path) == runtime


def test_runtimes_of_this_machine_are_measured_once_and_agree(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package)
    rows = [row for row in RUNTIMES if row.name in ("onnxruntime", "openvino")]
    monkeypatch.setattr("blendmask_edge.runtimes.registry.RUNTIMES", tuple(rows))
    pixels, measured = np.full((32, 48, 3), (250, 60, 40), np.uint8), []

    def counted(graphs: Any, *rest: Any) -> Dict[str, float]:
        measured.extend(type(graph.session).__name__ for graph in graphs)
        return compare(graphs, *rest)

    monkeypatch.setattr("blendmask_edge.runtimes.auto_select.compare", counted)
    answers = []
    for asked in ("auto", "auto", "onnxruntime", "openvino"):
        with MaskPredictor(bundle_path, asked, threads=1) as predictor:
            answers.append((predictor(pixels), predictor.runtime))
    assert measured == ["OnnxRuntimeSession", "OpenVinoSession"]
    assert answers[0][1] == answers[1][1]
    for instances, _ in answers:
        np.testing.assert_allclose(instances.scores, answers[0][0].scores, rtol=1e-4)
        np.testing.assert_array_equal(instances.masks, answers[0][0].masks)


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
    chosen(bundle_path, threads=1)
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
    assert chosen(path, threads=threads) == "slow"


def test_another_file_with_the_same_graphs_needs_no_new_trial(
    stage: Stage, bundle_path: Path, tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    chosen(bundle_path)
    graphs = {"cpu": tiny_graph}
    path = write_bundle(tmp_path / "b.bmz", make_manifest(graphs, license="MIT"), graphs)
    stage.loads.clear()
    MaskPredictor(path).close()
    assert stage.loads == ["quick"]


def test_remembered_runtime_that_fails_asks_for_a_new_trial(stage: Stage, bundle_path: Path) -> None:
    chosen(bundle_path)
    stage.errors["quick"] = RuntimeUnavailableError("The GPU has gone.")
    assert chosen(bundle_path) == "slow"


@pytest.mark.parametrize("content", [b"", b"{", b'{"runtime": 3}', b'{"runtime": "gone", "seconds": {}}', b"\xff"])
def test_damaged_memory_asks_for_a_new_trial(content: bytes, stage: Stage, bundle_path: Path, own_cache: Path) -> None:
    chosen(bundle_path)
    next((own_cache / "runtimes").iterdir()).write_bytes(content)
    assert chosen(bundle_path) == "quick"
    assert stage.loads == ["slow", "quick"] * 2


def test_cache_that_cannot_be_written_is_no_error(
    stage: Stage, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BLENDMASK_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert chosen(bundle_path) == "quick"
    assert stage.loads == ["slow", "quick"] * 2


def test_one_runtime_needs_no_trial(bundle_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.add("only", 0.01)
    assert chosen(bundle_path) == "only"
    assert stage.clock.now == pytest.approx(10 * 0.01)  # the frame itself, the first of its session
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
    assert chosen(bundle_path) == "slow"
    assert f"quick is installed but left out: {error}" in caplog.text


@pytest.mark.parametrize("failing, left", [("quick", "slow"), ("slow", "quick")])
def test_runtime_whose_run_fails_loses_and_is_closed(failing: str, left: str, stage: Stage, bundle_path: Path) -> None:
    stage.failing_runs[failing] = InferenceError("Out of memory.")
    with MaskPredictor(bundle_path) as predictor:
        assert len(predictor(FRAME)) == 1
        assert (predictor.runtime, stage.open) == (left, [left])


@pytest.mark.parametrize("failing, left", [("quick", "slow"), ("slow", "quick")])
def test_runtime_that_returns_nonsense_loses(failing: str, left: str, stage: Stage, bundle_path: Path) -> None:
    stage.outputs[failing] = lambda image: outputs_of(image)._replace(scores=np.full((1, 4), 7, np.float32))
    assert chosen(bundle_path) == left


def test_graph_that_is_not_as_the_manifest_states_loses(
    stage: Stage, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "signature", SIGNATURE._replace(inputs={"image": TensorType("uint8", (1, 8, 8, 3))}))
    with pytest.raises(InferenceError, match=r"uint8 \[1, 8, 8, 3\], the manifest states uint8 \[1, 32, 48, 3\]"):
        MaskPredictor(bundle_path)
    assert stage.open == []


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
        predictor(FRAME)
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


@pytest.mark.parametrize("seconds, runs", [(0.01, MOST_TURNS), (0.2, LEAST_TURNS), (10.0, LEAST_TURNS)])
def test_trial_is_short_and_leaves_the_warm_up_out(seconds: float, runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.seconds["one"] = seconds
    session = Session(stage, "one")
    contract: Any = types.SimpleNamespace(check_outputs=lambda _: None)
    found = stage.compare([LoadedGraph("one", "cpu", session)], contract, np.zeros((1, 32, 48, 3), np.uint8))
    assert found == {"one": pytest.approx(seconds)}
    assert session.runs == WARM_UP_RUNS + runs
