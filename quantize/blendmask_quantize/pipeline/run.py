"""One way from a checkpoint and images to a bundle with its measured accuracy."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from blendmask_calibration.checks.guard import check_channel_order
from blendmask_edge.bundle.writer import write_bundle
from blendmask_edge.imaging import read_image
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint
from blendmask_quantize.export.bundle import Description, make_manifest
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.export.parity import Parity, check_parity
from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.pipeline.calibration_set import (
    CalibrationOptions,
    CalibrationSet,
    checked,
    for_users,
    hold_out,
    load_calibration_set,
    with_detection_counts,
)
from blendmask_quantize.pipeline.job import Plan, QuantizeOptions, make_plan
from blendmask_quantize.pruning.job import PruneReport, finished_pruning, prune
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated, estimate, observe
from blendmask_quantize.quantization.qat.criterion import GraphPredictor, MaskCriterion
from blendmask_quantize.quantization.qat.data import QatData, check_apart, labeled_data, unlabeled_data
from blendmask_quantize.quantization.qat.trainer import QatResult, run_qat
from blendmask_quantize.quantization.refine.steps import Given, Observed, Outcome, refine
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.runs.run_folder import PRUNED_FILE
from blendmask_quantize.training.data import CocoImages
from blendmask_quantize.validation.channel_order import MOST, scores_both_ways
from blendmask_quantize.validation.clipping import clipped_shares, most_clipped
from blendmask_quantize.validation.drift import DriftCriterion, NetworkInputs
from blendmask_quantize.validation.fidelity import Fidelity
from blendmask_quantize.validation.fidelity_limits import check_fidelity
from blendmask_quantize.validation.latency import median_ratio
from blendmask_quantize.validation.measure import Measured, Stage, compare_variants, measure_bundle

FLOAT, CPU = "float", "cpu"
_TIMED_IMAGES = 12


@dataclass(frozen=True)
class VariantReport:
    """One graph: bytes, parity with its torch graph, accuracy (empty if not measured), latency (None if not timed).

    `fidelity` is how far it is from the float graph; None for that graph itself.
    """

    size_bytes: int
    parity: Parity
    metrics: dict[str, float]
    latency_p50_ms: float | None
    fidelity: Fidelity | None


@dataclass(frozen=True)
class Report:
    """What `quantize` did.

    Attributes:
        bundle: path of the file.
        variants: by name, `float` included for comparison.
        speedup: float over `cpu` latency, median of interleaved frames.
        calibration: the set that was used.
        qat_result: what training came to, for recipes that train.
        pruned: what pruning came to, for recipes that prune; its file is gone.
        refined: what each step of refinement came to.
    """

    bundle: Path
    variants: dict[str, VariantReport]
    speedup: float
    calibration: CalibrationSet
    qat_result: QatResult | None = None
    pruned: PruneReport | None = None
    refined: tuple[Outcome, ...] = ()


def quantize(checkpoint: Checkpoint, output: Path, options: QuantizeOptions, stage: Stage) -> Report:
    """Shrink a checkpoint by a recipe and write the bundle.

    Raises:
        CalibrationError: the guard refuses the images or what INT8 makes of them, or no estimator has that name.
        ConfigError: unknown recipe or step, an input size that the network cannot take, a ratio that pruning cannot
            reach, or options of training or pruning for a recipe that does not train or prune.
        AnnotationError: the evaluation data do not fit, or are trained on, or the labels to train on do not fit.
        CheckpointError: an unfinished run lies beside the output, or one of other options is to be resumed.
        DivergedError: training came to a loss that is no number.
        ParityError: an exported graph disagrees with the network.
        OutputError: the bundle cannot be written.
    """
    plan = make_plan(checkpoint, output, options)
    traced = trace_network(checkpoint.model)
    drawn = load_calibration_set(
        options.calibration, plan.size, pad_value(checkpoint.config.input), lambda total: stage("reading", total)
    )
    qat_data = _qat_data(plan, traced) if plan.recipe.trains else None
    with plan.run.active() if plan.run is not None else contextlib.nullcontext():
        shrunk = _shrink(plan, traced, drawn, qat_data, stage)
        graphs, parities = _export(shrunk, stage)
        with _scratch_bundle(shrunk, graphs) as path:
            shrunk, fidelity = _compare(shrunk, path, stage)
            measured = _measure(shrunk, path, list(graphs), stage)
        kept = {variant: data for variant, data in graphs.items() if variant != FLOAT or options.keep_float}
        metrics = {variant: [found] for variant, found in measured.accuracy.items() if variant in kept}
        records = {variant: found.record() for variant, found in fidelity.items()}
        write_bundle(output, make_manifest(_describe(shrunk), kept, metrics, records), kept)
    return _report(output, graphs, parities, measured, shrunk, fidelity)


@dataclass(frozen=True)
class _Shrunk:
    """What a recipe made of a checkpoint.

    Attributes:
        plan: with the checkpoint that was quantized, after any pruning.
        traced: its float network.
        calibrated: weights and ranges of the quantized networks.
        drawn: the calibration images, judged.
        fullest: that of them with most instances, uint8 (H, W, 3) RGB as in its file.
        pruned, qat_result: what pruning and training came to; None where the recipe does neither.
        refined: what each step of refinement came to.
    """

    plan: Plan
    traced: fx.GraphModule
    calibrated: Calibrated
    drawn: CalibrationSet
    fullest: NDArray[np.uint8]
    pruned: PruneReport | None
    qat_result: QatResult | None
    refined: tuple[Outcome, ...]


def _qat_data(plan: Plan, traced: fx.GraphModule) -> QatData:
    checkpoint, options = plan.checkpoint, plan.options
    folder = options.calibration.folder
    if options.annotations is not None:
        qat_data = labeled_data(folder, options.annotations, checkpoint, options.qat_options)
    else:
        qat_data = unlabeled_data(
            folder, checkpoint, GraphPredictor(checkpoint, traced, plan.size), options.qat_options
        )
    if plan.evaluation is not None:
        images = plan.evaluation.images
        check_apart(qat_data, folder, [images.folder / image["file_name"] for image in images.coco.imgs.values()])
    return qat_data


def _shrink(
    plan: Plan, traced: fx.GraphModule, drawn: CalibrationSet, qat_data: QatData | None, stage: Stage
) -> _Shrunk:
    """Whatever the recipe does. The guard judges the images by what the given network finds, before it is pruned."""
    allow, pruned = plan.options.calibration.allow, None
    drawn = _check_channels(plan, traced, drawn, stage)
    if plan.recipe.prunes:
        assert qat_data is not None
        drawn = with_detection_counts(drawn, _count_instances(plan, traced, drawn, stage), allow)
        plan, pruned = _prune(plan, qat_data, stage)
        traced = trace_network(plan.checkpoint.model)
    observed, counts = _calibrate(plan, traced, drawn, stage)
    if pruned is None:
        drawn = with_detection_counts(drawn, counts, allow)
    calibrated, refined = _refine(plan, observed, drawn, stage)
    qat_result = None
    if qat_data is not None:
        qat_result = _run_qat(plan, calibrated, qat_data, stage)
        drawn = _untrained(plan, qat_data, drawn)
    shrunk = calibrated if qat_result is None else qat_result.calibrated
    fullest = read_image(plan.options.calibration.folder / drawn.record.images[int(np.argmax(counts))].name)
    return _Shrunk(plan, traced, shrunk, drawn, fullest, pruned, qat_result, refined)


def _check_channels(plan: Plan, traced: fx.GraphModule, drawn: CalibrationSet, stage: Stage) -> CalibrationSet:
    """The set with what the float network says of the order of its channels."""
    on_image = stage("checking channel order", 2 * min(MOST, len(drawn.images)))
    given, swapped = scores_both_ways(plan.graph(traced), drawn.images, on_image)
    return checked(drawn, check_channel_order(given, swapped), plan.options.calibration.allow)


def _untrained(plan: Plan, qat_data: QatData, drawn: CalibrationSet) -> CalibrationSet:
    """The set with images held out that the network was not trained on."""
    folder, ground_truth = plan.options.calibration.folder, qat_data.ground_truth
    paths = [ground_truth.folder / ground_truth.coco.imgs[i]["file_name"] for i in ground_truth.ids]
    return hold_out(drawn, paths, folder, plan.size, pad_value(plan.checkpoint.config.input))


def _prune(plan: Plan, qat_data: QatData, stage: Stage) -> tuple[Plan, PruneReport]:
    """Prune and fine-tune on the images that are not held out, or take what an earlier run came to."""
    assert plan.run is not None
    assert plan.options.pruning is not None
    assert isinstance(qat_data.training, CocoImages)
    path, sources, options = plan.run.path / PRUNED_FILE, [qat_data.training], plan.options.pruning
    if path.exists():
        report = finished_pruning(plan.checkpoint, sources, path, options)
    else:
        report = prune(plan.checkpoint, sources, path, options, stage, resume=plan.options.resume)
    return replace(plan, checkpoint=load_checkpoint(path)), report


def _count_instances(plan: Plan, network: fx.GraphModule, drawn: CalibrationSet, stage: Stage) -> list[int]:
    """How many instances a float network finds on each image."""
    finder, on_step = plan.graph(network), stage("looking for instances", len(drawn.images))
    counts = []
    for x in NetworkInputs(plan.checkpoint.model, drawn.images):
        with torch.no_grad():
            counts.append(_instances(finder, network(x)))
        on_step()
    return counts


def _instances(finder: DeployableGraph, predictions: Predictions) -> int:
    return int((finder.suppress(finder.select(predictions)).score > 0).sum())


def _calibrate(plan: Plan, traced: fx.GraphModule, drawn: CalibrationSet, stage: Stage) -> tuple[Observed, list[int]]:
    """Ranges, and how many instances the float network finds on each image."""
    counts: list[int] = []
    finder, on_step = plan.graph(traced), stage("calibrating", len(drawn.images))

    def on_image(predictions: Predictions) -> None:
        counts.append(_instances(finder, predictions))
        on_step()

    given = _given(plan, drawn)
    with for_users():
        histograms = observe(traced, given.inputs, on_image)
        calibrated = Calibrated(traced, estimate(traced, histograms, given.first_estimator))
    return Observed(calibrated, histograms, traced), counts


def _given(plan: Plan, drawn: CalibrationSet) -> Given:
    return Given(NetworkInputs(plan.checkpoint.model, drawn.images), plan.options.calibration.estimator)


def _refine(
    plan: Plan, observed: Observed, drawn: CalibrationSet, stage: Stage
) -> tuple[Calibrated, tuple[Outcome, ...]]:
    """Take the steps of the plan, and keep those that bring the networks nearer to float on held-out images."""
    if not plan.steps:
        return observed.calibrated, ()
    on_step = stage("refining", len(plan.steps))
    criterion = DriftCriterion(plan.checkpoint, observed.reference, plan.size, drawn.compared)
    with for_users():
        return refine(observed, plan.steps, _given(plan, drawn), criterion, on_step)


def _run_qat(plan: Plan, calibrated: Calibrated, qat_data: QatData, stage: Stage) -> QatResult:
    assert plan.run is not None
    qat_options = plan.options.qat_options
    on_step = stage("training with quantization", qat_options.training.iterations)
    on_image = stage("judging on held-out images", 2 * len(VARIANTS) * len(qat_data.ground_truth.ids))
    criterion = MaskCriterion(plan.checkpoint, plan.size, qat_data.ground_truth, on_image)
    return run_qat(
        plan.checkpoint, calibrated, qat_data, criterion, qat_options, plan.run.path, resume=plan.options.resume,
        on_step=lambda *_: on_step(),
    )  # fmt: skip


def _export(shrunk: _Shrunk, stage: Stage) -> tuple[dict[str, bytes], dict[str, Parity]]:
    """ONNX of each network, and how it compares on the image with most instances."""
    networks = {FLOAT: shrunk.traced} | {variant: shrunk.calibrated.render(variant) for variant in VARIANTS}
    graphs, parities = {}, {}
    on_step = stage("exporting", len(networks))
    for variant, network in networks.items():
        graph = shrunk.plan.graph(network, live_rows=variant == CPU)
        exported = export_onnx(graph)
        parities[variant] = check_parity(shrunk.plan.checkpoint.model, graph, exported, shrunk.fullest)
        graphs[variant] = exported.SerializeToString()
        on_step()
    return graphs, parities


def _describe(shrunk: _Shrunk) -> Description:
    plan, estimator = shrunk.plan, shrunk.plan.options.calibration.estimator
    changed: dict[str, Any] = {} if estimator == CalibrationOptions.estimator else {"estimator": estimator}
    changed["steps"] = {outcome.name: outcome.record() for outcome in shrunk.refined}
    if shrunk.pruned is not None:
        changed["pruning"] = shrunk.pruned.record()
    if shrunk.qat_result is not None:
        changed["qat"] = shrunk.qat_result.record()
    return Description(
        plan.checkpoint, plan.size, plan.bounds, plan.recipe, changed, shrunk.drawn.record, shrunk.calibrated.ranges,
        plan.options.license,
    )  # fmt: skip


@contextlib.contextmanager
def _scratch_bundle(shrunk: _Shrunk, graphs: Mapping[str, bytes]) -> Iterator[Path]:
    """A bundle of all graphs, so that they are measured as the SDK runs them; thrown away afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        yield write_bundle(Path(scratch) / "all.bmz", make_manifest(_describe(shrunk), graphs, {}), graphs)


def _compare(shrunk: _Shrunk, path: Path, stage: Stage) -> tuple[_Shrunk, dict[str, Fidelity]]:
    """How far each quantized graph is from the float one, with what the guard says of it."""
    images = shrunk.drawn.compared
    on_frame = stage("comparing with float", (1 + len(VARIANTS)) * len(images))
    fidelity = compare_variants(path, FLOAT, VARIANTS, [image[0] for image in images], on_frame)
    shares = clipped_shares(shrunk.calibrated, NetworkInputs(shrunk.plan.checkpoint.model, images))
    record = replace(shrunk.drawn.record, clipped=most_clipped(shrunk.calibrated, shares))
    allow = shrunk.plan.options.calibration.allow
    drawn = checked(replace(shrunk.drawn, record=record), check_fidelity(fidelity), allow)
    return replace(shrunk, drawn=drawn), fidelity


def _measure(shrunk: _Shrunk, path: Path, variants: list[str], stage: Stage) -> Measured:
    """Accuracy and latency of every graph."""
    plan, images = shrunk.plan, shrunk.drawn.record.images
    frames = [read_image(plan.options.calibration.folder / image.name) for image in images[:_TIMED_IMAGES]]
    return measure_bundle(path, variants, plan.evaluation, stage, timed=(FLOAT, CPU), frames=frames)


def _report(
    output: Path, graphs: Mapping[str, bytes], parities: Mapping[str, Parity], measured: Measured, shrunk: _Shrunk,
    fidelity: Mapping[str, Fidelity],
) -> Report:  # fmt: skip
    variants = {
        name: VariantReport(
            len(data), parities[name], measured.metrics(name), measured.latency_p50_ms(name), fidelity.get(name)
        )
        for name, data in graphs.items()
    }
    speedup = median_ratio(measured.latency_ms, FLOAT, CPU)
    return Report(output, variants, speedup, shrunk.drawn, shrunk.qat_result, shrunk.pruned, shrunk.refined)
