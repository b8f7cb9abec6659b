"""One way from a checkpoint and images to a bundle: what the bundle says is true, and a failure leaves nothing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from blendmask_calibration.checks.findings import Finding
from blendmask_calibration.estimators import Range
from blendmask_edge import MaskPredictor, read_image
from blendmask_edge.benchmark.side_by_side import THREADS
from blendmask_edge.bundle.manifest import Manifest, Measurement
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.errors import AnnotationError, BlendMaskError, CalibrationError, ConfigError, OutputError
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import evaluate
from blendmask_edge.imaging import preprocess
from blendmask_quantize import QuantizeOptions
from blendmask_quantize import quantize as public_quantize
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.bundle import ranges_sha256
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.export.parity import Parity, ParityError
from blendmask_quantize.model.config import CONFIGS, InputConfig
from blendmask_quantize.model.input_size import input_size
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.pipeline import comparison, stages
from blendmask_quantize.pipeline import job as plan
from blendmask_quantize.pipeline import run as pipeline
from blendmask_quantize.pipeline.report import Report
from blendmask_quantize.quantization.inputs import NetworkInputs
from blendmask_quantize.quantization.ptq import estimate, observe_ranges
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.runs.progress import Progress
from blendmask_quantize.validation import measure
from blendmask_quantize.validation.as_written import AsWritten
from blendmask_quantize.validation.fidelity import Fidelity, compare
from blendmask_quantize.validation.gpu_arithmetic import GRAPH_IN
from tests.quantize.conftest import Made, replay
from tests.quantize.images import describe, some_images, write_annotations, write_images

SIZE = (64, 96)
FEW = QuantizeOptions(count=4, allow=("few-images",), estimator="max", size=SIZE, detections=20, steps=())
"""Few images, to be quick."""
ENOUGH: dict[str, Any] = {"count": 17, "allow": ()}
"""For what the guard says of more."""
Quantize = Callable[..., Report]


def quiet(_: str, __: int) -> Callable[[], None]:
    return lambda: None


@pytest.fixture
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    return load_checkpoint(checkpoint_path)


@pytest.fixture
def quantize(photographs: Path) -> Quantize:
    """The public function, on the photographs unless others are given."""

    def run(
        checkpoint: Checkpoint, output: Path, options: QuantizeOptions, progress: Progress = quiet, *,
        folder: Path = photographs, recipe: str = "ptq",
    ) -> Report:  # fmt: skip
        return public_quantize(checkpoint, folder, output, recipe, options=options, progress=progress)

    return run


@pytest.fixture
def options() -> QuantizeOptions:
    """See `FEW`."""
    return FEW


@dataclass(frozen=True)
class Plain:
    """One run with the options of all, where an older file lay.

    Attributes:
        report: what it reported.
        live: whether each graph that was exported has live rows, in order.
        threads: of each predictor that was opened, in order.
    """

    report: Report
    live: list[bool]
    threads: list[int | None]


@pytest.fixture(scope="module")
def plain(made: Made, photographs: Path, checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Plain:
    path = tmp_path_factory.mktemp("plain") / "m.bmz"
    path.write_bytes(b"older")
    live: list[bool] = []
    threads: list[int | None] = []
    with pytest.MonkeyPatch.context() as patch:
        replay(made, patch)
        exported, opened = comparison.export_onnx, measure.MaskPredictor

        def watched(graph: DeployableGraph) -> onnx.ModelProto:
            live.append(graph.live_rows)
            return exported(graph)

        def predictor(path: Path, runtime: str, threads_: int | None = None, *given: Any, **named: Any) -> Any:
            threads.append(threads_)
            return opened(path, runtime, threads_, *given, **named)

        patch.setattr(comparison, "export_onnx", watched)
        patch.setattr(measure, "MaskPredictor", predictor)
        report = public_quantize(checkpoint_path, photographs, path, options=FEW)
    return Plain(report, live, threads)


@pytest.fixture
def manifest(made: Made) -> Manifest:
    return Bundle.open(made.path).manifest


# What a bundle says


def test_the_manifest_says_how_it_was_made(manifest: Manifest, made: Made) -> None:
    assert (manifest.recipe.name, manifest.recipe.version) == ("ptq", "3")
    assert manifest.recipe.options["estimator"] == "max"
    assert [outcome.name for outcome in made.report.refined] == ["coordinate_descent", "bias_correction"]
    assert manifest.recipe.options["steps"] == {outcome.name: outcome.record() for outcome in made.report.refined}
    assert all(outcome.kept == outcome.after.improves(outcome.before) for outcome in made.report.refined)
    assert (manifest.model, manifest.license) == ("TINY", "CC0-1.0")
    assert (manifest.input.height, manifest.input.width, manifest.input.pad_value) == (*SIZE, (127, 127, 127))
    assert (manifest.classes, manifest.category_ids) == (["cup", "plate", "fork"], [2, 5, 9])
    assert {"torch", "onnx", "onnxruntime", "blendmask-edge"} <= set(manifest.versions)
    assert {graph.opset for graph in manifest.graphs.values()} == {17}
    assert {name: graph.precision for name, graph in manifest.graphs.items()} == {
        "float": "float32", "cpu": "int8", "tensorrt": "int8",
    }  # fmt: skip


def test_the_manifest_says_which_images_calibrated_it(manifest: Manifest, photographs: Path) -> None:
    record = manifest.calibration
    assert record is not None
    assert (record.seed, record.estimator, record.found) == (3, "max", 34)
    assert (record.overrides, len(record.images), len(record.held_out)) == ([], 29, 4)
    for image in [*record.images, *record.held_out]:
        assert image.sha256 == hashlib.sha256((photographs / image.name).read_bytes()).hexdigest()


def test_one_hash_stands_for_the_ranges_of_every_variant(
    manifest: Manifest, checkpoint: Checkpoint, photographs: Path
) -> None:
    assert manifest.calibration is not None
    files = [photographs / image.name for image in manifest.calibration.images]
    images = [preprocess(read_image(path), SIZE, manifest.input.pad_value).image for path in files]
    inputs = NetworkInputs(checkpoint.model, images)
    ranges = observe_ranges(trace_network(checkpoint.model), inputs, "max")
    assert manifest.ranges_sha256 == ranges_sha256(ranges)
    assert ranges_sha256(dict(reversed(ranges.items()))) == manifest.ranges_sha256
    some = next(iter(ranges))
    assert ranges_sha256(ranges | {some: replace(ranges[some], high=9.0)}) != manifest.ranges_sha256


def test_the_manifest_states_the_bounds_that_the_graph_has(manifest: Manifest, made: Made) -> None:
    shapes = {}
    for variant in ("cpu", "tensorrt"):
        graph = onnx.load_from_string(Bundle.open(made.path).graph(variant)).graph
        (masks,) = (output for output in graph.output if output.name == "mask_logits")
        shapes[variant] = [dim.dim_value for dim in masks.type.tensor_type.shape.dim]
    rows, side = manifest.detections, manifest.mask_size
    assert shapes == {"cpu": [1, 0, side, side], "tensorrt": [1, rows, side, side]}, "0 stands for a dynamic size"
    bounds = Bounds(detections=20).within(CONFIGS["LITE0_RT"], SIZE)
    assert (manifest.detections, manifest.nms.rounds) == (20, bounds.rounds)
    assert manifest.nms.candidates == 3 * (8 * 12 + 4 * 6 + 2 * 3), "as many pairs as the network has at this size"
    assert manifest.score_threshold == pytest.approx(0.05**0.5)
    assert (manifest.nms.iou_threshold, manifest.nms.per_level_top) == (0.6, 1000)


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize("left_out", [3, pytest.param(0, marks=pytest.mark.slow)])
def test_instances_that_too_few_candidates_cost_are_a_warning(
    left_out: int, quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    parity = Parity(5, 0, 0.0, 0.0, candidates=700, left_out=left_out)
    monkeypatch.setattr(comparison, "check_parity", lambda *_: parity)
    report = quantize(checkpoint, tmp_path / "m.bmz", replace(options, candidates=300), quiet)
    warned = [finding.message for finding in report.calibration.warnings if finding.code == "candidates"]
    said = "compare the best 300. Instances of low scores that are left out: 3. --candidates 768 takes more."
    assert [said in message for message in warned] == [True] * (left_out > 0)
    assert Bundle.open(tmp_path / "m.bmz").manifest.nms.candidates == 300


def test_each_variant_carries_its_own_accuracy(manifest: Manifest, made: Made, scenes: Path) -> None:
    assert set(manifest.metrics) == {"float", "cpu", "tensorrt"}
    for variant, (measured,) in manifest.metrics.items():
        assert (measured.data, measured.images) == (f"{scenes.name} (annotations.json)", 3)
        with MaskPredictor(made.path, "onnxruntime", score_threshold=0, variant=variant) as predictor:
            expected = evaluate(predictor, AnnotatedImages.open(scenes, scenes / "annotations.json"))
        assert measured.metrics == pytest.approx(expected)
        assert made.report.variants[variant].metrics == measured.metrics


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
def test_accuracy_in_each_arithmetic_is_measured_if_asked_for(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, made: Made, scenes: Path, tmp_path: Path
) -> None:
    data = (scenes, scenes / "annotations.json")
    report = quantize(checkpoint, tmp_path / "m.bmz", replace(options, evaluation=data, arithmetic=True), quiet)
    found = Bundle.open(tmp_path / "m.bmz").manifest.arithmetic
    assert list(found) == list(GRAPH_IN) == list(report.arithmetic)
    bundle = Bundle.open(made.path)
    for name, rewrite in GRAPH_IN.items():
        predictor = AsWritten(bundle.manifest, rewrite(bundle.graph("tensorrt")))
        assert found[name].metrics == pytest.approx(evaluate(predictor, AnnotatedImages.open(*data)))
    assert made.report.arithmetic == bundle.manifest.arithmetic == {}


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
def test_the_threshold_for_display_is_chosen_on_the_evaluation_images(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, made: Made, scenes: Path, tmp_path: Path
) -> None:
    """The bundle's own surest instances as annotations: it is right from their least score on."""
    labeled = tmp_path / "surest.json"
    document = json.loads((scenes / "annotations.json").read_text())
    with MaskPredictor(made.path, "onnxruntime", score_threshold=0, variant="cpu") as predictor:
        found = {image["id"]: predictor(read_image(scenes / image["file_name"])) for image in document["images"]}
    least = float(np.median(np.concatenate([instances.scores for instances in found.values()])))
    surest = [result for i, instances in found.items() for result in instances[instances.scores >= least].to_coco(i)]
    document["annotations"] = [{"iscrowd": 0, **result} for result in surest]
    labeled.write_text(json.dumps(document))
    report = quantize(checkpoint, tmp_path / "m.bmz", replace(options, evaluation=(scenes, labeled)), quiet)
    assert report.display is not None
    manifest = Bundle.open(tmp_path / "m.bmz").manifest
    assert manifest.display_threshold == report.display.score == pytest.approx(least, abs=0.02)
    assert manifest.display_measurement == Measurement(
        data=f"{scenes.name} (surest.json)", images=3, metrics=report.display.metrics()
    )
    assert report.display.f1 > 0.9
    assert manifest.metrics["cpu"][0].metrics["mask_ap50"] > 0.9


def test_the_manifest_says_how_far_each_quantized_graph_is_from_float(manifest: Manifest, made: Made) -> None:
    assert set(manifest.fidelity) == {"cpu", "tensorrt"}
    for variant, found in manifest.fidelity.items():
        reported = made.report.variants[variant].fidelity
        assert reported is not None
        assert msgspec.to_builtins(found) == reported.record()
        assert found.images == 4
        assert found.matched > 10 * (found.missed + found.spurious)
        assert reported.mask_iou > 0.8
    assert made.report.variants["float"].fidelity is None


def test_fidelity_is_what_the_bundle_shows_on_the_held_out_images(
    manifest: Manifest, made: Made, photographs: Path
) -> None:
    assert manifest.calibration is not None
    held = [read_image(photographs / image.name) for image in manifest.calibration.held_out]
    frames = [preprocess(image, SIZE, manifest.input.pad_value).image[0] for image in held]
    with (
        MaskPredictor(made.path, "onnxruntime", score_threshold=0, variant="float") as reference,
        MaskPredictor(made.path, "onnxruntime", score_threshold=0, variant="cpu") as candidate,
    ):
        assert compare(reference, candidate, frames, manifest.detections) == made.report.variants["cpu"].fidelity


def test_the_report_holds_what_a_table_needs(made: Made) -> None:
    report = made.report
    assert list(report.variants) == ["float", "cpu", "tensorrt"]
    assert report.bundle == made.path
    assert report.speedup > 0
    assert all(entry.parity.holds for entry in report.variants.values())
    assert report.variants["cpu"].latency_p50_ms > 0  # type: ignore[operator]
    assert report.variants["tensorrt"].latency_p50_ms is None
    assert report.variants["cpu"].size_bytes < report.variants["float"].size_bytes


def test_every_stage_is_announced_and_finished(made: Made) -> None:
    assert made.stages == {
        "reading": (33, 33),
        "checking channel order": (48, 48),
        "calibrating": (29, 29),
        "refining": (2, 2),
        "exporting": (4, 4),
        "comparing with float": (12, 12),
        "evaluating": (9, 9),
    }


# What a bundle does


@pytest.mark.parametrize("variant", ["cpu", "tensorrt", "float"])
def test_the_bundle_predicts(made: Made, scenes: Path, variant: str) -> None:
    with MaskPredictor(made.path, "onnxruntime", score_threshold=0, variant=variant) as predictor:
        found = predictor(read_image(scenes / "0.png"))
    assert 0 < len(found) <= 20
    assert found.masks.shape == (len(found), 64, 96)
    assert set(found.class_names) <= {"cup", "plate", "fork"}
    assert found.scores.min() >= 0.05**0.5


def test_the_float_variant_finds_what_the_torch_graph_finds(made: Made, checkpoint: Checkpoint, scenes: Path) -> None:
    image = read_image(scenes / "1.png")
    graph = DeployableGraph(checkpoint.model, checkpoint.model, SIZE, Bounds(detections=20)).eval()
    with torch.no_grad():
        expected = graph(torch.from_numpy(image[None]))
    with MaskPredictor(made.path, "onnxruntime", score_threshold=0, variant="float") as predictor:
        found = predictor(image)
    np.testing.assert_allclose(found.scores, expected.scores[0, : len(found)], atol=1e-4)


# Options


def test_the_float_graph_is_left_out_unless_asked_for(plain: Plain) -> None:
    manifest = Bundle.open(plain.report.bundle).manifest
    assert set(manifest.graphs) == {"cpu", "tensorrt"}
    assert manifest.metrics == {}
    assert (manifest.display_threshold, manifest.display_measurement, plain.report.display) == (0.5, None, None)
    assert list(plain.report.variants) == ["float", "cpu", "tensorrt"]


@pytest.mark.usefixtures("replayed")
@pytest.mark.slow
def test_options_that_are_the_default_are_not_recorded(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path
) -> None:
    few = replace(options, estimator="mse", count=1)
    quantize(checkpoint, tmp_path / "m.bmz", few, quiet)
    manifest = Bundle.open(tmp_path / "m.bmz").manifest
    assert manifest.recipe.options == {"steps": {}}
    assert manifest.calibration is not None
    assert (manifest.calibration.estimator, manifest.calibration.overrides) == ("mse", ["few-images"])


def test_an_older_bundle_is_replaced_and_nothing_else_in_the_folder_changes(plain: Plain) -> None:
    bundle = plain.report.bundle
    assert list(bundle.parent.iterdir()) == [bundle]
    Bundle.open(bundle)


@pytest.mark.parametrize(
    "name, size", [("LITE0_RT", (480, 640)), ("RT_R_50_4x_bn-head_syncbn_shtw", (512, 704)), ("R_50_3x", (800, 1088))]
)
def test_the_input_has_the_test_size_of_a_image_of_four_to_three(name: str, size: tuple[int, int]) -> None:
    assert input_size(CONFIGS[name].input, None) == size


@pytest.mark.parametrize(
    "wanted, near",
    [((65, 96), "64x96"), ((0, 0), "32x32"), ((64, 1), "64x32"), ((47, 49), "32x64"), ((10**9, 64), "16384x64")],
)
def test_a_size_that_the_network_cannot_take_is_refused_with_one_that_it_can(
    wanted: tuple[int, int], near: str
) -> None:
    with pytest.raises(ConfigError, match=f"use {near}"):
        input_size(InputConfig(), wanted)


# Failures


@contextlib.contextmanager
def nothing_left(folder: Path, scratch: Path) -> Iterator[None]:
    """See that a block leaves neither a file in the folder nor a temporary one."""
    scratch.mkdir()
    before = sorted(folder.rglob("*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(scratch))
        yield
    assert sorted(folder.rglob("*")) == before
    assert not list(scratch.iterdir())


Refused = tuple[type[BlendMaskError], str, dict[str, object]]


@pytest.mark.usefixtures("no_long_work")
@pytest.mark.parametrize(
    "error, message, change",
    [
        (ConfigError, "did you mean ptq", {"recipe": "ptqq"}),
        (ConfigError, "no step is called 'equalize': did you mean", {"steps": ("equalize",)}),
        (ConfigError, "not a multiple of 32", {"size": (65, 96)}),
        (ConfigError, "--iterations is of no use", {"iterations": 5}),
        (CalibrationError, "median", {"estimator": "median"}),
        (CalibrationError, "unknown check", {"allow": ("fewer-images",)}),
        (CalibrationError, "not a folder", {"folder": Path("nowhere")}),
        (ConfigError, "count is 0", {"count": 0}),
        (CalibrationError, "--allow few-images", {"count": 5, "allow": ()}),
    ],
    ids=["recipe", "step", "size", "iterations", "estimator", "override", "folder", "count", "guard"],
)
def test_options_are_refused_before_long_work(
    quantize: Quantize,
    checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, error: type[BlendMaskError], message: str,
    change: dict[str, object],
) -> None:  # fmt: skip
    own = {name: value for name, value in change.items() if name in QuantizeOptions.__dataclass_fields__}
    others = {name: value for name, value in change.items() if name not in own}
    (tmp_path / "out").mkdir()
    with nothing_left(tmp_path / "out", tmp_path / "scratch"), pytest.raises(error, match=message):
        quantize(checkpoint, tmp_path / "out/m.bmz", replace(options, **own), **others)


@pytest.mark.usefixtures("no_long_work")
@pytest.mark.parametrize("name", [".", "missing/m.bmz", "file/m.bmz", "/proc/m.bmz"])
def test_an_output_that_cannot_be_written_is_refused_before_long_work(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    with nothing_left(tmp_path, tmp_path.parent / f"{tmp_path.name}-scratch"), pytest.raises(OutputError):
        quantize(checkpoint, tmp_path / name, options, quiet)


@pytest.mark.usefixtures("no_long_work")
@pytest.mark.parametrize("full, advice", [("out", "for the output"), ("temporary", "set TMPDIR")])
def test_a_disk_without_room_for_the_bundle_is_refused_before_long_work(
    quantize: Quantize,
    checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str,
    advice: str,
) -> None:  # fmt: skip
    for name in ("out", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    usage = shutil.disk_usage(tmp_path)

    def nearly_full(folder: Path) -> Any:
        return usage._replace(free=10_000) if folder == tmp_path / full else usage

    monkeypatch.setattr(plan.shutil, "disk_usage", nearly_full)
    with pytest.raises(OutputError, match=rf"0\.0 MB free, .* MB are needed.*{advice}"):
        quantize(checkpoint, tmp_path / "out/m.bmz", options, quiet)
    assert not list(tmp_path.rglob("*.*"))


def other_classes(folder: Path) -> None:
    content = describe(some_images(2))
    for category in content["categories"]:
        category["id"] += 50
    for annotation in content["annotations"]:
        annotation["category_id"] += 50
    write_annotations(folder, content)


def missing_image(folder: Path) -> None:
    (folder / "1.png").unlink()


def images_of_other_names(folder: Path) -> None:
    content = describe(some_images(2))
    for image in content["images"]:
        image["file_name"] = f"frame_{image['file_name']}"
    write_annotations(folder, content)


def no_json(folder: Path) -> None:
    (folder / "annotations.json").write_text("{")


def other_images(folder: Path) -> None:
    content = describe(some_images(2))
    for image in content["images"]:
        image["width"] += 5
    write_annotations(folder, content)


@pytest.mark.usefixtures("no_long_work")
@pytest.mark.parametrize("spoil", [other_classes, missing_image, images_of_other_names, no_json, other_images])
def test_annotations_that_do_not_fit_are_refused_before_long_work(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    write_images(tmp_path / "scenes", some_images(2))
    spoil(tmp_path / "scenes")
    data = (tmp_path / "scenes", tmp_path / "scenes/annotations.json")
    (tmp_path / "out").mkdir()
    with nothing_left(tmp_path / "out", tmp_path / "scratch"), pytest.raises(AnnotationError):
        quantize(checkpoint, tmp_path / "out/m.bmz", replace(options, evaluation=data), quiet)


@pytest.mark.slow
def test_a_graph_that_disagrees_with_its_network_is_not_written(
    quantize: Quantize,
    checkpoint: Checkpoint,
    options: QuantizeOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoiled(graph: DeployableGraph) -> onnx.ModelProto:
        model = export_onnx(graph)
        (tensor,) = (entry for entry in model.graph.initializer if entry.name == "top_weight")
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.1, tensor.name))
        return model

    monkeypatch.setattr(comparison, "export_onnx", spoiled)
    (tmp_path / "out").mkdir()
    with pytest.raises(ParityError, match="Nothing was written"):
        quantize(checkpoint, tmp_path / "out/m.bmz", options, quiet)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["m.run"], "only the calibration is kept"


def narrow(part: str, times: float) -> Callable[..., dict[str, Range]]:
    """Calibration that finds ranges of one part of the network too small."""

    def spoiled(*arguments: Any) -> dict[str, Range]:
        found = estimate(*arguments)
        wrong = {name: Range(r.low / times, r.high / times) for name, r in found.items() if part in name}
        return found | wrong

    return spoiled


@pytest.mark.slow
def test_a_bundle_whose_masks_broke_is_not_written_although_its_scores_are_right(
    quantize: Quantize,
    checkpoint: Checkpoint,
    options: QuantizeOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last = checkpoint.model.basis_module.tower[-1]
    with torch.no_grad():  # masks of both signs, by what the bases show
        last.bias.zero_()
        last.weight.sub_(last.weight.mean(dim=1, keepdim=True))
    monkeypatch.setattr(stages, "estimate", narrow("basis_module", 20))
    monkeypatch.setattr(pipeline, "measure_accuracy", lambda *_: pytest.fail("accuracy was measured"))
    with pytest.raises(CalibrationError, match=r"cpu: masks do not survive .*--allow broken-masks") as refused:
        quantize(checkpoint, tmp_path / "m.bmz", options, quiet)
    assert not (tmp_path / "m.bmz").exists()
    assert "shifted-scores" not in str(refused.value)
    assert "missed-instances" not in str(refused.value)


@pytest.mark.usefixtures("replayed")
@pytest.mark.slow
def test_broken_masks_can_be_allowed_and_are_recorded(
    quantize: Quantize,
    checkpoint: Checkpoint,
    options: QuantizeOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = Fidelity(4, 40, 0, 0, score_drift=0.01, box_iou=0.95, mask_iou=0.3, mask_iou_low=0.1)
    monkeypatch.setattr(comparison, "compare_variants", lambda *_: dict.fromkeys(("cpu", "tensorrt"), broken))
    allowed = replace(options, count=17, allow=("broken-masks",))
    report = quantize(checkpoint, tmp_path / "m.bmz", allowed, quiet)
    manifest = Bundle.open(tmp_path / "m.bmz").manifest
    assert manifest.calibration is not None
    assert manifest.calibration.overrides == ["broken-masks"]
    assert manifest.fidelity["cpu"].mask_iou == 0.3
    assert any("masks do not survive" in str(finding) for finding in report.calibration.warnings)


@pytest.mark.usefixtures("replayed")
@pytest.mark.slow
def test_the_tensors_that_are_clipped_most_are_recorded(
    quantize: Quantize,
    checkpoint: Checkpoint,
    options: QuantizeOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "estimate", narrow("basis_module_tower_0_2", 20))
    quantize(checkpoint, tmp_path / "m.bmz", options, quiet)
    record = Bundle.open(tmp_path / "m.bmz").manifest.calibration
    assert record is not None
    assert next(iter(record.clipped)) == "basis_module.tower.0.2"
    assert list(record.clipped.values()) == sorted(record.clipped.values(), reverse=True)


def with_class_bias(checkpoint: Checkpoint, bias: float) -> Checkpoint:
    """The network with another prior of its classes."""
    with torch.no_grad():
        checkpoint.model.proposal_generator.fcos_head.cls_logits.bias.fill_(bias)
    return checkpoint


@pytest.mark.slow
def test_images_on_which_the_network_finds_nothing_are_refused(
    quantize: Quantize,
    checkpoint: Checkpoint,
    options: QuantizeOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(comparison, "export_onnx", lambda _: pytest.fail("an export began"))
    with pytest.raises(CalibrationError, match=r"17 of 17 images have no detections.*--allow few-detections"):
        quantize(with_class_bias(checkpoint, -30), tmp_path / "m.bmz", replace(options, **ENOUGH), quiet)
    assert not (tmp_path / "m.bmz").exists()


@pytest.mark.usefixtures("no_long_work")
def test_images_with_red_and_blue_swapped_are_refused_before_long_work(
    quantize: Quantize,
    checkpoint: Checkpoint,
    options: QuantizeOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "scores_both_ways", lambda *_: ([[0.6], [0.5], [0.7]], [[0.8], [0.75], [0.9]]))
    with pytest.raises(CalibrationError, match=r"red and blue swapped.*--allow channel-order"):
        quantize(checkpoint, tmp_path / "m.bmz", options, quiet)
    assert not (tmp_path / "m.bmz").exists()


@pytest.mark.usefixtures("replayed")
@pytest.mark.slow
def test_that_refusal_can_be_overridden_and_is_recorded(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path
) -> None:
    allowed = replace(options, allow=("few-detections", "few-images"))
    quantize(with_class_bias(checkpoint, -30), tmp_path / "m.bmz", allowed, quiet)
    record = Bundle.open(tmp_path / "m.bmz").manifest.calibration
    assert record is not None
    assert sorted(record.overrides) == ["few-detections", "few-images"]


@contextlib.contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file of this process may grow past `room` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("replayed")
def test_a_full_disk_is_one_message_and_leaves_nothing(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    with (
        nothing_left(tmp_path / "out", tmp_path / "scratch"),
        full_disk(20_000),
        pytest.raises(OutputError, match="has room"),
    ):
        quantize(checkpoint, tmp_path / "out/m.bmz", options, quiet)


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize(
    "moment, left",
    [("reading", False), ("calibrating", False), ("exporting", True), ("comparing with float", True)],
)
def test_an_interruption_before_the_bundle_is_done_leaves_at_most_the_calibration(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, scenes: Path, tmp_path: Path, moment: str,
    left: bool,
) -> None:  # fmt: skip
    def interrupted(name: str, _: int) -> Callable[[], None]:
        def step() -> None:
            if name == moment:
                raise KeyboardInterrupt

        return step

    data = (scenes, scenes / "annotations.json")
    for name in ("out", "other"):
        (tmp_path / name).mkdir()
    with nothing_left(tmp_path / "other", tmp_path / "scratch"), pytest.raises(KeyboardInterrupt) as stopped:
        quantize(checkpoint, tmp_path / "out/m.bmz", replace(options, evaluation=data), interrupted)
    found = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert found == (["stage-observation.npz"] if left else [])
    told = f"the work so far is kept in {tmp_path / 'out/m.run'}: the same command goes on from there"
    assert str(stopped.value) == (f"interrupted; {told}" if left else "")


@pytest.mark.usefixtures("replayed")
@pytest.mark.slow
def test_an_interruption_of_measuring_leaves_the_bundle_and_says_so(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, scenes: Path, tmp_path: Path
) -> None:
    def interrupted(name: str, _: int) -> Callable[[], None]:
        def step() -> None:
            if name == "evaluating":
                raise KeyboardInterrupt

        return step

    data = (scenes, scenes / "annotations.json")
    with pytest.raises(KeyboardInterrupt, match=r"m\.bmz is complete but has no metrics"):
        quantize(checkpoint, tmp_path / "m.bmz", replace(options, evaluation=data), interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["m.bmz"]
    assert Bundle.open(tmp_path / "m.bmz").manifest.metrics == {}


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
def test_a_disk_that_fills_up_at_the_end_does_not_cost_the_bundle(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    written = pipeline.write_bundle

    def full(path: Path, *given: Any) -> Path:
        if path.parent == tmp_path:
            raise OutputError("Cannot write it: no space left.")
        return written(path, *given)

    monkeypatch.setattr(pipeline, "write_bundle", full)
    with pytest.raises(OutputError, match="The finished bundle is in ") as failed:
        quantize(checkpoint, tmp_path / "m.bmz", options, quiet)
    rescued = Path(str(failed.value).split(" is in ")[1].split(": ")[0])
    assert Bundle.open(rescued).manifest.model == "TINY"
    shutil.rmtree(rescued.parent)


@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize(
    "spoil", ["image", *(pytest.param(x, marks=pytest.mark.slow) for x in ("annotations", "folder"))]
)
def test_data_that_are_spoiled_meanwhile_do_not_cost_the_bundle(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, spoil: str
) -> None:
    """What is measured on is checked before the long part; it may still change before it is used."""
    annotations = write_images(tmp_path / "scenes", some_images(2))
    spoiled = {
        "image": lambda: (tmp_path / "scenes/0.png").write_bytes(b"no image"),
        "annotations": annotations.unlink,
        "folder": lambda: shutil.rmtree(tmp_path / "scenes"),
    }

    def announce(name: str, _: int) -> Callable[[], None]:
        if name == "exporting":
            spoiled[spoil]()
        return lambda: None

    measured = replace(options, evaluation=(tmp_path / "scenes", annotations))
    report = quantize(checkpoint, tmp_path / "m.bmz", measured, announce)
    manifest = Bundle.open(tmp_path / "m.bmz").manifest
    assert bool(report.unmeasured) == (spoil != "annotations"), "annotations are read once"
    assert bool(manifest.metrics) == (spoil == "annotations")


# The one protocol of timing


def test_float_and_int8_do_the_same_work_when_they_are_timed(plain: Plain) -> None:
    assert plain.live == [True, True, False], "float, cpu, tensorrt"
    assert plain.threads[-2:] == [THREADS, THREADS]


def test_the_float_graph_of_a_bundle_is_static(made: Made) -> None:
    """TensorRT takes no other; the one that is timed is not shipped."""
    graph = onnx.load_from_string(Bundle.open(made.path).graph("float")).graph
    assert not [node for node in graph.node if node.op_type in ("NonZero", "ScatterND", "Range")]


@pytest.mark.usefixtures("replayed")
@pytest.mark.slow
def test_a_file_that_is_no_image_among_the_calibration_images_is_named(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, photographs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted(photographs.glob("*.png"))[:12]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "a.png").write_text("no image")
    report = quantize(checkpoint, tmp_path / "m.bmz", replace(options, count=40), folder=folder)
    assert any("a.png" in str(finding) for finding in report.calibration.warnings)
    record = Bundle.open(tmp_path / "m.bmz").manifest.calibration
    assert record is not None
    assert "unreadable-images" in record.warnings


def test_the_image_with_most_instances_is_compared(
    quantize: Quantize,
    checkpoint: Checkpoint,
    options: QuantizeOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stop(Exception):
        pass

    def compared(_: object, graph: DeployableGraph, __: object, image: NDArray[np.uint8]) -> None:
        prepared = preprocess(image, graph.size, pad_value(graph.config.input)).image
        with torch.no_grad():
            raise Stop(int((graph(torch.from_numpy(prepared)).scores > 0).sum()))

    counts: list[int] = []
    original = stages.check_detections

    def checked(found: list[int]) -> list[Finding]:
        counts.extend(found)
        return original(found)

    monkeypatch.setattr(comparison, "export_onnx", lambda _: None)
    monkeypatch.setattr(comparison, "check_parity", compared)
    monkeypatch.setattr(stages, "check_detections", checked)
    with pytest.raises(Stop) as stopped:
        quantize(with_class_bias(checkpoint, -2.5), tmp_path / "m.bmz", replace(options, detections=100), quiet)
    assert stopped.value.args[0] == max(counts) > min(counts)


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
def test_a_measurement_that_fails_does_not_cost_the_bundle(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, scenes: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise KeyError("iscrowd")

    monkeypatch.setattr(pipeline, "measure_accuracy", fail)
    measured = replace(options, evaluation=(scenes, scenes / "annotations.json"))
    report = quantize(checkpoint, tmp_path / "m.bmz", measured, quiet)
    assert "iscrowd" in report.unmeasured
    assert Bundle.open(tmp_path / "m.bmz").manifest.metrics == {}


@pytest.mark.slow
@pytest.mark.usefixtures("replayed")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_pass_every_stage_where_they_are_allowed(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path, count: int
) -> None:
    steps = ("cross_layer_equalization", "coordinate_descent", "bias_correction")
    few = replace(options, count=count, allow=("few-images",), estimator="auto", steps=steps)
    report = quantize(checkpoint, tmp_path / "m.bmz", few, quiet)
    assert len(report.calibration.record.images) == count
    assert [outcome.name for outcome in report.refined] == [steps[0], "ranges", *steps[1:]]


@pytest.mark.slow
def test_refinement_is_judged_with_the_detections_that_were_asked_for(
    quantize: Quantize, checkpoint: Checkpoint, options: QuantizeOptions, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    counts: list[int] = []

    class Judging(Exception):
        pass

    class Watched(stages.DriftCriterion):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            counts.extend(len(instances) for instances in self.expected)
            raise Judging

    monkeypatch.setattr(stages, "DriftCriterion", Watched)
    with pytest.raises(Judging):
        quantize(checkpoint, tmp_path / "m.bmz", replace(options, steps=("bias_correction",)), quiet)
    assert max(counts) == options.detections == 20


@pytest.mark.usefixtures("replayed")
@pytest.mark.slow
def test_images_can_come_from_an_iterable_and_layers_stay_float(
    checkpoint: Checkpoint, options: QuantizeOptions, photographs: Path, tmp_path: Path
) -> None:
    images = (read_image(path) for path in sorted(photographs.rglob("*.png")))
    ignored = ("backbone.bottom_up.stem", re.compile("fpn_output"))
    public_quantize(checkpoint, images, tmp_path / "m.bmz", options=options, ignored=ignored)
    manifest = Bundle.open(tmp_path / "m.bmz").manifest
    assert manifest.recipe.options["ignored"] == ["backbone.bottom_up.stem", "re:fpn_output"]
    assert manifest.calibration is not None
    assert [image.name for image in manifest.calibration.images][:3] == ["0", "1", "2"]
