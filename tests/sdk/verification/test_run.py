"""A device is verified route by route; what cannot be tried, failed or left a limit is a row, and the rest goes on.

No GPU runs here. `gpu` is a stand-in for the driver and for TensorRT, which computes the tiny graph on ordinary memory
and replays a recorded answer of the engine inspector; the CPU routes are the real ones.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge import ConfigError, OutputError
from blendmask_edge.bundle import write_bundle
from blendmask_edge.bundle.manifest import Measurement
from blendmask_edge.cli.app import app
from blendmask_edge.verification.process import run_part
from blendmask_edge.verification.report import Row, read_report
from blendmask_edge.verification.routes import Route, find_route
from blendmask_edge.verification.run import Outcome, Request, verify_device
from tests.sdk.devices import fake_tensorrt as building
from tests.sdk.runtimes.fake_cuda import FakeDriver
from tests.sdk.runtimes.fake_tensorrt import ENGINE, make_module
from tests.sdk.small_bundles import CELLS, NAMES, build_graph, describe
from tests.sdk.verification.recorded import HALF, INT8, information, layer

pytest.importorskip("onnxruntime")
GPU_ROUTES = [
    "tensorrt-int8", "tensorrt-fp16", "torch-tensorrt-int8", "onnxruntime-tensorrt-int8", "onnxruntime-cuda",
    "torch-fp16",
]  # fmt: skip
CONVOLUTION = "/stem/Conv"
FAST = {"frames": 4, "threads": 1, "soak_seconds": 0.0}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle with three graphs that compute the same; that for TensorRT also holds a quantized convolution."""
    graphs = {"cpu": build_graph(), "tensorrt": with_convolution(build_graph()), "float": build_graph()}
    return write_bundle(tmp_path / "tiny.bmz", describe(graphs), graphs)


def with_convolution(graph: bytes) -> bytes:
    """Add a quantized convolution of the image whose result does not matter much: it is multiplied by zero."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(graph)
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    model.graph.initializer.extend([
        array(np.float32(0.5), "step"), array(np.int8(0), "zero"), array(np.float32(0), "none"),
        array(np.ones((1, 32, 1, 1), np.int8), "weight"),
    ])  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["pixels", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["weight", "step", "zero"], ["w"]),
        helper.make_node("Conv", ["dq", "w"], ["convolved"], name=CONVOLUTION),
        helper.make_node("ReduceMax", ["convolved"], ["one"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["one", "none"], ["nought"]),
        helper.make_node("Add", ["logits", "nought"], ["mask_logits"]),
    ]
    kept = [node for node in model.graph.node if node.output[0] != "mask_logits"]
    del model.graph.node[:]
    model.graph.node.extend([*kept, *nodes])
    return bytes(model.SerializeToString())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder of plain images, one of each color."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, color in enumerate([(40, 60, 250), (50, 240, 60), (245, 60, 70)]):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((64, 96, 3), color, np.uint8))
    return folder


@pytest.fixture
def verify(bundle: Path, images: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """Return a function that verifies in this process, which the stand-ins live in."""

    def verified(**options: Any) -> Outcome:
        request = Request(bundle, images, options.pop("annotations", None), tmp_path / "out", **{**FAST, **options})
        return verify_device(request, launch=lambda job, route, part, _limit: run_part(job, route, part))

    return verified


@pytest.fixture
def gpu(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a stand-in for TensorRT 10.3 on an Orin NX that answers as the graph does; installed as `tensorrt`."""
    module = make_module(driver, "10.3.0")
    builds = building.make_tensorrt("10.3.0")
    for name in ("Builder", "OnnxParser", "BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType"):
        setattr(module, name, getattr(builds, name))
    module.ProfilingVerbosity = builds.ProfilingVerbosity
    monkeypatch.setattr("blendmask_edge.runtimes.tensorrt.engine.build_engine", lambda *_: ENGINE)
    module.mask_logits = np.random.default_rng(0).normal(1.0, 3.0, (1, 4, CELLS, CELLS)).astype(np.float32)
    module.layer_information = information([layer(CONVOLUTION, INT8)])
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.delitem(sys.modules, "blendmask_edge.runtimes.tensorrt.session", raising=False)
    yield module
    sys.modules.pop("blendmask_edge.runtimes.tensorrt.session", None)


def statuses(outcome: Outcome) -> Dict[str, str]:
    """Return the status of each row by route and part."""
    return {f"{row.route} {row.part}": row.status for row in outcome.report.rows}


@pytest.mark.usefixtures("no_driver")
def test_machine_without_a_gpu_measures_its_cpu_and_tells_of_each_gpu_route(verify: Callable[..., Outcome]) -> None:
    outcome = verify()
    for route in GPU_ROUTES:
        (row,) = [row for row in outcome.report.rows if row.route == route]
        assert row.status == "not available"
        assert "no CUDA driver (libcuda.so.1)" in row.reason
        assert "verify-device` on a device with an NVIDIA GPU" in row.next
    measured = outcome.report.row("cpu-int8", "measure")
    assert measured is not None
    assert measured.metrics["latency_p99_ms"] >= measured.metrics["latency_p50_ms"] > 0
    assert statuses(outcome)["cpu-int8 soak"] == "passed"
    assert outcome.report.gpu is None
    assert read_report(outcome.path).report == outcome.report
    page = outcome.page.read_text("utf-8")
    assert all(name in page for name in ["cpu-int8", "p99 ms", *GPU_ROUTES])


def test_gpu_is_built_inspected_measured_compared_and_soaked(verify: Callable[..., Outcome], gpu: Any) -> None:
    outcome = verify(target="jetson-orin-nx", routes=["tensorrt-int8"])
    parts = ["build", "layers", "measure", "agreement", "soak"]
    assert [statuses(outcome)[f"tensorrt-int8 {part}"] for part in parts] == ["passed"] * 5
    assert (outcome.report.target, outcome.report.gpu is not None) == ("jetson-orin-nx", True)
    agreed = outcome.report.row("tensorrt-int8", "agreement")
    assert agreed is not None
    assert agreed.metrics["instances"] > 0
    assert agreed.metrics["changed_share"] == 0
    assert gpu.driver.is_clean()


def test_layer_in_half_and_other_masks_leave_a_limit(verify: Callable[..., Outcome], gpu: Any) -> None:
    gpu.layer_information = information([layer(CONVOLUTION, HALF)])
    gpu.mask_logits = -gpu.mask_logits
    outcome = verify(target="jetson-orin-nx", routes=["tensorrt-int8"])
    found = {row.part: row for row in outcome.report.of("limit left")}
    assert set(found) == {"layers", "agreement"}
    assert CONVOLUTION in found["layers"].reason
    assert "instances changed" in found["agreement"].reason
    assert "blendmask compare" in found["agreement"].next


@pytest.mark.usefixtures("no_driver")
def test_report_of_another_device_is_refused(verify: Callable[..., Outcome]) -> None:
    message = r"not a Jetson Orin NX: it has no GPU that the driver shows.*Targets that fit: (x86|arm64)"
    with pytest.raises(ConfigError, match=message):
        verify(target="jetson-orin-nx")


@pytest.mark.usefixtures("gpu")
def test_target_of_a_shared_gpu_must_be_named(verify: Callable[..., Outcome]) -> None:
    with pytest.raises(ConfigError, match=r"one of several targets.*SM 8\.7.*jetson-orin-nx.*--target"):
        verify()


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
def test_processor_of_a_machine_with_a_gpu_can_be_the_target(verify: Callable[..., Outcome]) -> None:
    """A Jetson Nano is verified so, whose GPU no bundle runs on."""
    with pytest.raises(
        ConfigError, match=r"Targets that fit: jetson-agx-orin.*, (x86|x86-vnni|arm64)\. Give"
    ) as listed:
        verify()
    processor = str(listed.value).rpartition(". Give")[0].rpartition(", ")[2]
    report = verify(target=processor).report
    assert (report.target, report.gpu) == (processor, None)
    found = {row.route: row for row in report.rows}
    for route in GPU_ROUTES:
        assert (found[route].status, found[route].reason) == ("not available", f"the target {processor} is a processor")
        assert "target of the Orin NX" in found[route].next
    assert found["cpu-int8"].status == "passed"


@pytest.mark.usefixtures("no_driver")
def test_interruption_keeps_what_is_done_and_says_how_to_go_on(bundle: Path, images: Path, tmp_path: Path) -> None:
    done: List[str] = []

    def launch(job: Any, route: Any, part: str, _limit: float) -> Row:
        if part == "soak" and not done.count("soak"):
            done.append(part)
            raise KeyboardInterrupt
        done.append(part)
        return run_part(job, route, part)

    request = Request(bundle, images, None, tmp_path / "out", routes=["cpu-int8"], **FAST)
    message = rf"parts that are done are kept in {tmp_path / 'out'}.*same command again"
    with pytest.raises(KeyboardInterrupt, match=message):
        verify_device(request, launch)
    assert [row.status for row in verify_device(request, launch).report.rows] == ["passed", "passed"]
    assert done == ["measure", "soak", "soak"]


@pytest.mark.usefixtures("gpu")
def test_build_that_fails_skips_the_rest_of_its_route_only(
    verify: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blendmask_edge.verification.process.PARTS", {**parts(), "build": fail})
    outcome = verify(target="jetson-orin-nx", routes=["tensorrt-int8", "cpu-int8"])
    assert statuses(outcome)["tensorrt-int8 build"] == "failed"
    for part in ("layers", "measure", "agreement", "soak"):
        assert statuses(outcome)[f"tensorrt-int8 {part}"] == "skipped"
    assert statuses(outcome)["cpu-int8 measure"] == "passed"


@pytest.mark.usefixtures("gpu")
def test_comparison_without_onnxruntime_for_cpus_is_skipped_with_what_to_install(
    verify: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = "blendmask_edge.verification.availability._is_installed"
    monkeypatch.setattr(installed, lambda route: route.runtime != "onnxruntime")
    report = verify(target="jetson-orin-nx", routes=["tensorrt-int8"]).report
    row = report.row("tensorrt-int8", "agreement")
    assert row is not None
    assert (row.status, row.reason) == ("skipped", "cpu-tensorrt-graph measure is not available")
    assert "pip install" in row.next
    measured = report.row("tensorrt-int8", "measure")
    assert measured is not None
    assert measured.status == "passed"


def parts() -> Dict[str, Any]:
    """Return the parts by name."""
    from blendmask_edge.verification.parts import PARTS

    return dict(PARTS)


def fail(*_: Any) -> Row:
    """Stand for a build that fails."""
    raise ConfigError("no such thing")


@pytest.mark.usefixtures("no_driver")
def test_second_call_keeps_what_passed_and_repeats_what_failed(bundle: Path, images: Path, tmp_path: Path) -> None:
    done: List[str] = []
    fails = {"soak"}

    def launch(job: Any, route: Any, part: str, _limit: float) -> Row:
        done.append(part)
        row = run_part(job, route, part)
        return Row(route=route.name, part=part, status="failed", reason="hung") if part in fails else row

    request = Request(bundle, images, None, tmp_path / "out", routes=["cpu-int8"], **FAST)
    assert [row.status for row in verify_device(request, launch).report.rows] == ["passed", "failed"]
    fails.clear()
    assert [row.status for row in verify_device(request, launch).report.rows] == ["passed", "passed"]
    assert done == ["measure", "soak", "soak"]
    verify_device(Request(bundle, images, None, tmp_path / "out", routes=["cpu-int8"], **{**FAST, "frames": 5}), launch)
    assert done[3:] == ["measure", "soak"]


def test_bad_arguments_are_refused_before_anything_runs(verify: Callable[..., Outcome], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Unknown route 'tpu'; known: cpu-int8"):
        verify(routes=["tpu"])
    with pytest.raises(ConfigError, match=r"Unknown target"):
        verify(target="commodore-64")
    for name, value in (
        ("frames", 10**12), ("threads", 2000), ("soak_seconds", float("inf")), ("limit_seconds", float("nan")),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{name} is {value}, expected"):
            verify(**{name: value})
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="Cannot write"):
        verify()


@pytest.mark.usefixtures("no_driver")
def test_two_verifications_in_a_folder_are_refused_with_one_message(bundle: Path, images: Path, tmp_path: Path) -> None:
    """The second is refused before it measures; the first goes on, and the folder is free again at its end."""
    refused: List[str] = []

    def launch(job: Any, route: Any, part: str, _limit: float) -> Row:
        again = call("verify-device", bundle, "--images", images, "-o", tmp_path / "out", "--route", "cpu-int8")
        refused.append(again.output)
        assert again.exit_code == 1
        return run_part(job, route, part)

    request = Request(bundle, images, None, tmp_path / "out", routes=["cpu-int8"], **FAST)
    assert [row.status for row in verify_device(request, launch).report.rows] == ["passed", "passed"]
    assert len(refused) == 2
    for output in refused:
        assert output.startswith(f"error: Another verification (process {os.getpid()}) works in {tmp_path / 'out'}")
        assert "Wait for its end" in output
        assert "Traceback" not in output
    assert verify_device(request, run_part_within).report.rows[0].status == "passed"


def run_part_within(job: Any, route: Any, part: str, _limit: float) -> Row:
    """Run a part in this process."""
    return run_part(job, route, part)


@pytest.mark.slow
@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize("stated, status", [(1.0, "limit left"), (0.0, "passed")])
def test_accuracy_is_compared_with_the_manifest_if_it_was_measured_on_the_same_data(
    stated: float, status: str, images: Path, tmp_path: Path
) -> None:
    """A bundle that promises more than the device reaches leaves a limit; a promise on other data is none."""
    pytest.importorskip("pycocotools")
    annotations = annotate(images, tmp_path / "val.json")
    graphs = {"cpu": build_graph(), "tensorrt": build_graph()}
    promises = [
        Measurement(data="other (val.json)", images=3, metrics={"mask_ap": 1.0}),
        Measurement(data="images (val.json)", images=3, metrics={"mask_ap": stated}),
    ]
    bundle = write_bundle(tmp_path / "b.bmz", describe(graphs, metrics={"cpu": promises}), graphs)
    route = Route("cpu-again", "onnxruntime", "cpu", "int8", ("measure", "agreement"), "cpu-int8")
    request = Request(bundle, images, annotations, tmp_path / "out", routes=["cpu-int8", "cpu-again"], **FAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blendmask_edge.verification.run.ROUTES", (find_route("cpu-int8"), route))
        report = verify_device(request, run_part_within).report
    measured, agreed = report.row("cpu-again", "measure"), report.row("cpu-again", "agreement")
    assert measured is not None
    assert agreed is not None
    assert agreed.status == status
    difference = agreed.metrics["mask_ap_difference_to_manifest"]
    assert difference == pytest.approx(measured.metrics["mask_ap"] - stated, abs=1e-4)
    assert ("below that of the manifest" in agreed.reason) == (status == "limit left")


def annotate(images: Path, path: Path) -> Path:
    """Write annotations of the images: an object that covers a quarter of each."""
    names = sorted(file.name for file in images.iterdir())
    square = [8, 8, 40, 8, 40, 40, 8, 40]
    document = {
        "images": [{"id": number, "file_name": name, "width": 96, "height": 64} for number, name in enumerate(names)],
        "annotations": [
            {
                "id": number + 1, "image_id": number, "category_id": 10, "bbox": [8, 8, 32, 32], "area": 1024,
                "iscrowd": 0, "segmentation": [square],
            }
            for number in range(len(names))
        ],
        "categories": [{"id": number, "name": name} for number, name in zip((10, 20, 35), NAMES)],
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("no_driver")
def test_command_runs_parts_in_processes_and_targets_shows_the_report(
    bundle: Path, images: Path, tmp_path: Path
) -> None:
    words = ["verify-device", bundle, "--images", images, "-o", tmp_path / "out", "--route", "cpu-int8"]
    done = call(*words, "--frames", 4, "--soak", 0, "--threads", 1)
    assert done.exit_code == 0, done.output
    assert "cpu-int8 measure: passed" in done.output
    assert f"Saved the report to {tmp_path / 'out/report.json'}" in done.output
    target = read_report(tmp_path / "out/report.json").report.target
    shown = call("targets", target, "--reports", tmp_path / "out")
    assert "Measured on" in shown.output
    assert "cpu-int8: " in shown.output
    reports = json.loads(call("targets", target, "--reports", tmp_path / "out", "--json").stdout)["reports"]
    assert reports[0]["report"]["rows"][0]["status"] == "passed"


def call(*words: object) -> Any:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="blendmask")
