"""`blendmask bench` measures, compares and refuses, with the agreed exit codes."""

from __future__ import annotations

import importlib.util
import json
from functools import partial
from pathlib import Path
from typing import Any, Dict, List

import cv2
import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge import Bundle, MaskPredictor, read_image
from blendmask_edge.benchmark import measure as measuring
from blendmask_edge.benchmark.baseline import new_baseline
from blendmask_edge.benchmark.machine import this_machine
from blendmask_edge.benchmark.record import Data, Record, Setting, Subject
from blendmask_edge.bundle import write_bundle
from blendmask_edge.cli.app import app
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.labels import Labels

pytest.importorskip("onnxruntime")

NAMES = ["red", "green", "blue"]
BRIGHT = {"red": (40, 60, 250), "green": (50, 240, 60), "blue": (245, 60, 70), "white": (250, 251, 252)}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no load of the test machine disturb a run; `test_disturbance` and `test_gate` test what does."""
    monkeypatch.setattr("blendmask_edge.benchmark.measure.disturbances", lambda *_, **__: [])
    monkeypatch.setattr("blendmask_edge.benchmark.reference._ROUNDS", 1)  # four take longer than all else here
    monkeypatch.setattr("blendmask_edge.benchmark.run.measure", partial(measuring.measure, resamples=20))


@pytest.fixture
def scene(tmp_path: Path, bundle_path: Path) -> Dict[str, Path]:
    """Return a folder of images, and annotations that the tiny bundle fits exactly."""
    folder = tmp_path / "images"
    folder.mkdir()
    images: List[Any] = []
    annotations: List[Any] = []
    with MaskPredictor(bundle_path, "onnxruntime", threads=1) as predictor:
        for number, (name, color) in enumerate(BRIGHT.items(), start=1):
            cv2.imwrite(str(folder / f"{name}.png"), np.full((64, 96, 3), color, np.uint8))
            images.append({"id": number, "file_name": f"{name}.png", "height": 64, "width": 96})
            for result in predictor(read_image(folder / f"{name}.png")).to_coco(number):
                annotations.append({"id": len(annotations) + 1, "iscrowd": 0, "area": 500.0, **result})
    categories = [{"id": number, "name": name} for number, name in zip([10, 20, 35], NAMES)]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return {"bundle": bundle_path, "images": folder, "annotations": path}


def test_a_number_of_frames_that_would_never_end_is_refused(scene: Dict[str, Path]) -> None:
    refused = bench(scene, "--frames", 10**12)
    assert refused.exit_code == 1
    assert "frames is 1000000000000, expected an integer from 1 to 1000000" in " ".join(refused.output.split())


def test_the_display_threshold_leaves_average_precision_alone(
    scene: Dict[str, Path], rewrite: Any, manifest_json: Dict[str, Any]
) -> None:
    expected = json.loads(bench(scene, "--json").stdout)["record"]["metrics"]
    strict = rewrite({"manifest.json": json.dumps({**manifest_json, "display_threshold": 1.0})})
    strict_metrics = json.loads(bench({**scene, "bundle": strict}, "--json").stdout)["record"]["metrics"]
    assert strict_metrics["mask_ap"] == expected["mask_ap"] > 0.5


def bench(scene: Dict[str, Path], *words: object) -> Any:
    """Run the command on a scene, with few frames, in one runtime unless another is named."""
    fixed = ["bench", scene["bundle"], "--images", scene["images"], "--annotations", scene["annotations"]]
    return call(*fixed, "--runtime", "onnxruntime", "--threads", 1, "--frames", 8, *words)


def call(*words: object) -> Any:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="blendmask")


def loosened(path: Path, **values: float) -> None:
    """Widen all limits on time so that no load of the test machine matters; set recorded values."""
    document = json.loads(path.read_text())
    for name, limit in document["limits"].items():
        if name.endswith("_ratio"):
            limit.update(worse=1e9, better=1e9)
    document["record"]["metrics"].update(values)
    path.write_text(json.dumps(document))


def test_measures_accuracy_and_every_stage(scene: Dict[str, Path]) -> None:
    result = bench(scene, "--runtime", "auto")
    assert result.exit_code == 0, result.output
    for text in ("TINY, cpu graph", "4 images of annotations.json, 8 frames", "mask  1.0000", "p99", "frames/s"):
        assert text in result.output
    assert result.output.count("1.0000 to 1.0000") == 2
    for stage in ("decode", "preprocess", "network", "postprocess", "reference"):
        assert f"\n{stage} " in result.output
    assert "--update-baseline" in result.output.splitlines()[-1]


def test_baseline_is_written_then_held(scene: Dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    written = bench(scene, "--baseline", path, "--update-baseline")
    assert written.exit_code == 0, written.output
    assert str(path) in written.output
    loosened(path)
    held = bench(scene, "--baseline", path)
    assert held.exit_code == 0, held.output
    assert "All metrics are within the limits of" in held.output
    assert "mask_ap" in held.output


def test_loss_of_accuracy_exits_with_a_table_and_one_message(scene: Dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    bench(scene, "--baseline", path, "--update-baseline")
    loosened(path, mask_ap=1.2)
    before = path.read_bytes()
    result = bench(scene, "--baseline", path)
    assert result.exit_code == 3
    assert [line for line in result.output.splitlines() if line.startswith("mask_ap ") and line.endswith("worse")]
    assert "error: Worse than the baseline allows: mask_ap 1 (was 1.2" in result.output
    assert "Traceback" not in result.output
    assert path.read_bytes() == before


@pytest.mark.slow
def test_update_accepts_what_moved_and_keeps_the_limits(scene: Dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    bench(scene, "--baseline", path, "--update-baseline")
    loosened(path, mask_ap=1.2)
    limits = json.loads(path.read_text())["limits"]
    result = bench(scene, "--baseline", path, "--update-baseline")
    assert result.exit_code == 0, result.output
    assert "worse" in result.output
    document = json.loads(path.read_text())
    assert document["limits"] == limits
    assert document["record"]["metrics"]["mask_ap"] == pytest.approx(1)


@pytest.mark.slow
def test_setting_left_open_is_that_of_the_baseline(scene: Dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    bench(scene, "--baseline", path, "--update-baseline", "--variant", "float", "--threads", 2)
    loosened(path)
    fixed = ["bench", scene["bundle"], "--images", scene["images"], "--annotations", scene["annotations"]]
    result = call(*fixed, "--frames", 4, "--baseline", path)
    assert result.exit_code == 0, result.output
    assert "float graph" in result.output
    assert "threads 2" in result.output
    assert "threads: 2, not 1" in call(*fixed, "--frames", 4, "--baseline", path, "--threads", 1).output


def test_json_is_pure_and_complete(scene: Dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "tiny.json"
    written = json.loads(bench(scene, "--baseline", path, "--update-baseline", "--json").stdout)
    assert written["record"] == json.loads(path.read_text())["record"]
    assert written["record"]["metrics"]["latency_p99_ms"] > 0
    loosened(path, box_ap=1.2)
    result = bench(scene, "--baseline", path, "--json")
    assert result.exit_code == 3
    document = json.loads(result.output.splitlines()[0])
    assert document["passed"] is False
    results = {change["metric"]: change["result"] for change in document["changes"]}
    assert results["box_ap"] == "worse"
    assert results["mask_ap"] == "within"


@pytest.fixture
def baseline_text(scene: Dict[str, Path]) -> str:
    """Return a baseline of the scene, as `--update-baseline` would have written it on this machine."""
    labels = Labels(tuple(NAMES), (10, 20, 35))
    images = AnnotatedImages.open(scene["images"], scene["annotations"], labels)
    graph = Bundle.open(scene["bundle"]).manifest.graphs["cpu"].sha256
    subject = Subject(model="TINY", variant="cpu", graph_sha256=graph, runtime="onnxruntime", threads=1)
    data = Data.of(scene["annotations"], len(images.ids))
    setting = Setting(subject=subject, data=data, machine=this_machine())
    record = Record(created="2026-01-01T00:00:00+00:00", setting=setting, frames=8, metrics={"mask_ap": 1.0})
    return msgspec.json.encode(new_baseline(record)).decode()


@pytest.fixture
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the long part fail, so that what is refused must be refused before."""

    def measured(*_: object, **__: object) -> None:
        raise AssertionError("measured before refusing")

    monkeypatch.setattr("blendmask_edge.benchmark.run.measure", measured)


@pytest.mark.usefixtures("no_measuring")
def test_other_annotations_are_refused_before_measuring(scene: Dict[str, Path], tmp_path: Path) -> None:
    document = json.loads(scene["annotations"].read_text())
    document["images"][2]["width"] = 100
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    result = bench({**scene, "annotations": other})
    assert result.exit_code == 1
    assert "has the size [64, 96], expected [height, width] of the image, [64, 100]" in result.output
    assert bench({**scene, "images": tmp_path}).exit_code == 1


@pytest.mark.usefixtures("no_measuring")
def test_annotations_that_match_no_image_are_refused_before_measuring(scene: Dict[str, Path], tmp_path: Path) -> None:
    document = json.loads(scene["annotations"].read_text())
    for entry in document["images"]:
        entry["file_name"] = "other-" + entry["file_name"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    result = bench({**scene, "annotations": other})
    assert result.exit_code == 1
    assert "error: 4 of 4 annotated images are not in" in result.output
    assert "other-red.png" in result.output


@pytest.mark.usefixtures("no_measuring")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--baseline", "none.json"], "Cannot read none.json"),
        (["--baseline", "none/none.json", "--update-baseline"], "Cannot write none/none.json"),
        (["--update-baseline"], "name the baseline to write"),
        (["--runtime", "onnx_runtime"], "Did you mean onnxruntime?"),
        (["--runtime", "tensorrt"], "on a Jetson it comes with"),
        (["--threads", "0"], "threads is 0"),
        (["--variant", "tpu"], "tpu"),
    ],
)
def test_what_cannot_work_is_one_message_before_measuring(
    scene: Dict[str, Path], words: List[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "tensorrt" else real(name, *rest)
    )
    result = bench(scene, *words)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_baseline_of_another_machine_is_refused_unless_accuracy_alone_counts(
    scene: Dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.json"
    bench(scene, "--baseline", path, "--update-baseline")
    document = json.loads(path.read_text())
    document["record"]["setting"]["machine"]["cpu"] = "Cortex-A78AE"
    path.write_text(json.dumps(document))
    result = bench(scene, "--baseline", path, "--accuracy-only")
    assert result.exit_code == 0, result.output
    assert "latency_ratio" not in result.output
    monkeypatch.setattr("blendmask_edge.benchmark.run.measure", None)
    result = bench(scene, "--baseline", path)
    assert result.exit_code == 1
    assert "cpu Cortex-A78AE, not" in result.output


@pytest.mark.usefixtures("no_measuring")
def test_baseline_of_another_bundle_is_refused(
    scene: Dict[str, Path], tmp_path: Path, make_manifest: Any, tiny_graph: bytes, baseline_text: str
) -> None:
    path, other = tmp_path / "tiny.json", tmp_path / "other.bmz"
    path.write_text(baseline_text)
    graphs = {"cpu": tiny_graph}
    write_bundle(other, make_manifest(graphs, model="R_50_3x"), graphs)
    result = bench({**scene, "bundle": other}, "--baseline", path)
    assert result.exit_code == 1
    assert "the model TINY, not R_50_3x. Measure the same, or make another baseline with" in result.output
    assert path.read_text() == baseline_text


def test_interrupted_update_leaves_the_former_baseline(
    scene: Dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.json"
    bench(scene, "--baseline", path, "--update-baseline")
    before = path.read_bytes()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("blendmask_edge.benchmark.run.measure", interrupted)
    assert bench(scene, "--baseline", path, "--update-baseline").exit_code == 130
    assert path.read_bytes() == before
