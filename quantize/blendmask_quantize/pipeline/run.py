"""One way from a checkpoint and pictures to a bundle with its measured accuracy."""

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
    for_users,
    hold_out,
    judge_detections,
    judged,
    load_calibration_set,
)
from blendmask_quantize.pipeline.job import Plan, QuantizeOptions, make_plan
from blendmask_quantize.pipeline.run_folder import PRUNED_FILE
from blendmask_quantize.pruning.job import PruneReport, finished_pruning, prune
from blendmask_quantize.quantization.placement import FLAVOURS
from blendmask_quantize.quantization.ptq import Calibrated, estimate, observe
from blendmask_quantize.quantization.qat.criterion import GraphPredictor, MaskJudge
from blendmask_quantize.quantization.qat.data import Material, check_apart, labelled_material, plain_material
from blendmask_quantize.quantization.qat.trainer import Tuned, tune
from blendmask_quantize.quantization.refine.steps import Given, Observed, Outcome, refine
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.training.data import CocoPictures
from blendmask_quantize.validation.channel_order import MOST, scores_both_ways
from blendmask_quantize.validation.clipping import clipped_shares, most_clipped
from blendmask_quantize.validation.drift import DriftJudge, NetworkInputs
from blendmask_quantize.validation.fidelity import Fidelity
from blendmask_quantize.validation.fidelity_limits import check_fidelity
from blendmask_quantize.validation.latency import median_ratio
from blendmask_quantize.validation.measure import Measured, Stage, compare_flavours, measure_bundle

FLOAT, CPU = "float", "cpu"
_TIMED_PICTURES = 12


@dataclass(frozen=True)
class FlavourReport:
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
        flavours: by name, `float` included for comparison.
        speedup: float over `cpu` latency, median of interleaved frames.
        calibration: the set that was used.
        tuned: what training came to, for recipes that train.
        pruned: what pruning came to, for recipes that prune; its file is gone.
        refined: what each step of refinement came to.
    """

    bundle: Path
    flavours: dict[str, FlavourReport]
    speedup: float
    calibration: CalibrationSet
    tuned: Tuned | None = None
    pruned: PruneReport | None = None
    refined: tuple[Outcome, ...] = ()


def quantize(checkpoint: Checkpoint, output: Path, options: QuantizeOptions, stage: Stage) -> Report:
    """Shrink a checkpoint by a recipe and write the bundle.

    Raises:
        CalibrationError: the guard refuses the pictures or what INT8 makes of them, or no estimator has that name.
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
    material = _material(plan, traced) if plan.recipe.tunes else None
    with plan.run.held() if plan.run is not None else contextlib.nullcontext():
        shrunk = _shrink(plan, traced, drawn, material, stage)
        graphs, parities = _export(shrunk, stage)
        with _scratch_bundle(shrunk, graphs) as path:
            shrunk, fidelity = _compare(shrunk, path, stage)
            measured = _measure(shrunk, path, list(graphs), stage)
        kept = {flavour: data for flavour, data in graphs.items() if flavour != FLOAT or options.keep_float}
        metrics = {flavour: [found] for flavour, found in measured.accuracy.items() if flavour in kept}
        records = {flavour: found.record() for flavour, found in fidelity.items()}
        write_bundle(output, make_manifest(_describe(shrunk), kept, metrics, records), kept)
    return _report(output, graphs, parities, measured, shrunk, fidelity)


@dataclass(frozen=True)
class _Shrunk:
    """What a recipe made of a checkpoint.

    Attributes:
        plan: with the checkpoint that was quantised, after any pruning.
        traced: its float network.
        calibrated: weights and ranges of the quantised networks.
        drawn: the calibration pictures, judged.
        fullest: that of them with most objects.
        pruned, tuned: what pruning and training came to; None where the recipe does neither.
        refined: what each step of refinement came to.
    """

    plan: Plan
    traced: fx.GraphModule
    calibrated: Calibrated
    drawn: CalibrationSet
    fullest: NDArray[np.uint8]
    pruned: PruneReport | None
    tuned: Tuned | None
    refined: tuple[Outcome, ...]


def _material(plan: Plan, traced: fx.GraphModule) -> Material:
    checkpoint, options = plan.checkpoint, plan.options
    folder = options.calibration.folder
    if options.annotations is not None:
        material = labelled_material(folder, options.annotations, checkpoint, options.tuning)
    else:
        material = plain_material(folder, checkpoint, GraphPredictor(checkpoint, traced, plan.size), options.tuning)
    if plan.evaluation is not None:
        pictures = plan.evaluation.pictures
        check_apart(material, folder, [pictures.folder / image["file_name"] for image in pictures.coco.imgs.values()])
    return material


def _shrink(
    plan: Plan, traced: fx.GraphModule, drawn: CalibrationSet, material: Material | None, stage: Stage
) -> _Shrunk:
    """Whatever the recipe does. The guard judges the pictures by what the given network finds, before it is pruned."""
    allow, pruned = plan.options.calibration.allow, None
    drawn = _check_channels(plan, traced, drawn, stage)
    if plan.recipe.prunes:
        assert material is not None
        drawn = judge_detections(drawn, _count_objects(plan, traced, drawn, stage), allow)
        plan, pruned = _prune(plan, material, stage)
        traced = trace_network(plan.checkpoint.model)
    observed, counts = _calibrate(plan, traced, drawn, stage)
    if pruned is None:
        drawn = judge_detections(drawn, counts, allow)
    calibrated, refined = _refine(plan, observed, drawn, stage)
    tuned = None
    if material is not None:
        tuned = _tune(plan, calibrated, material, stage)
        drawn = _untrained(plan, material, drawn)
    shrunk = calibrated if tuned is None else tuned.calibrated
    return _Shrunk(plan, traced, shrunk, drawn, drawn.pictures[int(np.argmax(counts))], pruned, tuned, refined)


def _check_channels(plan: Plan, traced: fx.GraphModule, drawn: CalibrationSet, stage: Stage) -> CalibrationSet:
    """The set with what the float network says of the order of its channels."""
    on_picture = stage("checking channel order", 2 * min(MOST, len(drawn.pictures)))
    given, swapped = scores_both_ways(plan.graph(traced), drawn.pictures, on_picture)
    return judged(drawn, check_channel_order(given, swapped), plan.options.calibration.allow)


def _untrained(plan: Plan, material: Material, drawn: CalibrationSet) -> CalibrationSet:
    """The set with pictures held out that the network was not trained on."""
    folder, truth = plan.options.calibration.folder, material.truth
    paths = [truth.folder / truth.coco.imgs[i]["file_name"] for i in truth.ids]
    return hold_out(drawn, paths, folder, plan.size, pad_value(plan.checkpoint.config.input))


def _prune(plan: Plan, material: Material, stage: Stage) -> tuple[Plan, PruneReport]:
    """Prune and fine-tune on the pictures that are not held out, or take what an earlier run came to."""
    assert plan.run is not None
    assert plan.options.pruning is not None
    assert isinstance(material.training, CocoPictures)
    path, sources, options = plan.run.path / PRUNED_FILE, [material.training], plan.options.pruning
    if path.exists():
        report = finished_pruning(plan.checkpoint, sources, path, options)
    else:
        report = prune(plan.checkpoint, sources, path, options, stage, resume=plan.options.resume)
    return replace(plan, checkpoint=load_checkpoint(path)), report


def _count_objects(plan: Plan, network: fx.GraphModule, drawn: CalibrationSet, stage: Stage) -> list[int]:
    """How many objects a float network finds on each picture."""
    finder, on_step = plan.graph(network), stage("looking for objects", len(drawn.pictures))
    counts = []
    for x in NetworkInputs(plan.checkpoint.model, drawn.pictures):
        with torch.no_grad():
            counts.append(_objects(finder, network(x)))
        on_step()
    return counts


def _objects(finder: DeployableGraph, predictions: Predictions) -> int:
    return int((finder.suppress(finder.select(predictions)).score > 0).sum())


def _calibrate(plan: Plan, traced: fx.GraphModule, drawn: CalibrationSet, stage: Stage) -> tuple[Observed, list[int]]:
    """Ranges, and how many objects the float network finds on each picture."""
    counts: list[int] = []
    finder, on_step = plan.graph(traced), stage("calibrating", len(drawn.pictures))

    def on_image(predictions: Predictions) -> None:
        counts.append(_objects(finder, predictions))
        on_step()

    given = _given(plan, drawn)
    with for_users():
        histograms = observe(traced, given.inputs, on_image)
        calibrated = Calibrated(traced, estimate(traced, histograms, given.first_estimator))
    return Observed(calibrated, histograms, traced), counts


def _given(plan: Plan, drawn: CalibrationSet) -> Given:
    return Given(NetworkInputs(plan.checkpoint.model, drawn.pictures), plan.options.calibration.estimator)


def _refine(
    plan: Plan, observed: Observed, drawn: CalibrationSet, stage: Stage
) -> tuple[Calibrated, tuple[Outcome, ...]]:
    """Take the steps of the plan, and keep those that bring the networks nearer to float on held-out pictures."""
    if not plan.steps:
        return observed.calibrated, ()
    on_step = stage("refining", len(plan.steps))
    judge = DriftJudge(plan.checkpoint, observed.reference, plan.size, drawn.compared)
    with for_users():
        return refine(observed, plan.steps, _given(plan, drawn), judge, on_step)


def _tune(plan: Plan, calibrated: Calibrated, material: Material, stage: Stage) -> Tuned:
    assert plan.run is not None
    tuning = plan.options.tuning
    on_step = stage("training with quantisation", tuning.training.iterations)
    on_image = stage("judging on held-out pictures", 2 * len(FLAVOURS) * len(material.truth.ids))
    judge = MaskJudge(plan.checkpoint, plan.size, material.truth, on_image)
    return tune(
        plan.checkpoint, calibrated, material, judge, tuning, plan.run.path, resume=plan.options.resume,
        on_step=lambda *_: on_step(),
    )  # fmt: skip


def _export(shrunk: _Shrunk, stage: Stage) -> tuple[dict[str, bytes], dict[str, Parity]]:
    """ONNX of each network, and how it compares on the picture with most objects."""
    networks = {FLOAT: shrunk.traced} | {flavour: shrunk.calibrated.render(flavour) for flavour in FLAVOURS}
    graphs, parities = {}, {}
    on_step = stage("exporting", len(networks))
    for flavour, network in networks.items():
        graph = shrunk.plan.graph(network, live_rows=flavour == CPU)
        exported = export_onnx(graph)
        parities[flavour] = check_parity(graph, exported, shrunk.fullest)
        graphs[flavour] = exported.SerializeToString()
        on_step()
    return graphs, parities


def _describe(shrunk: _Shrunk) -> Description:
    plan, estimator = shrunk.plan, shrunk.plan.options.calibration.estimator
    changed: dict[str, Any] = {} if estimator == CalibrationOptions.estimator else {"estimator": estimator}
    changed["steps"] = {outcome.name: outcome.record() for outcome in shrunk.refined}
    if shrunk.pruned is not None:
        changed["pruning"] = shrunk.pruned.record()
    if shrunk.tuned is not None:
        changed["tuning"] = shrunk.tuned.record()
    return Description(
        plan.checkpoint, plan.size, plan.bounds, plan.recipe, changed, shrunk.drawn.record, shrunk.calibrated.ranges,
        plan.options.licence,
    )  # fmt: skip


@contextlib.contextmanager
def _scratch_bundle(shrunk: _Shrunk, graphs: Mapping[str, bytes]) -> Iterator[Path]:
    """A bundle of all graphs, so that they are measured as the SDK runs them; thrown away afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        yield write_bundle(Path(scratch) / "all.bmz", make_manifest(_describe(shrunk), graphs, {}), graphs)


def _compare(shrunk: _Shrunk, path: Path, stage: Stage) -> tuple[_Shrunk, dict[str, Fidelity]]:
    """How far each quantised graph is from the float one, with what the guard says of it."""
    pictures = shrunk.drawn.compared
    on_frame = stage("comparing with float", (1 + len(FLAVOURS)) * len(pictures))
    fidelity = compare_flavours(path, FLOAT, FLAVOURS, [picture[0] for picture in pictures], on_frame)
    shares = clipped_shares(shrunk.calibrated, NetworkInputs(shrunk.plan.checkpoint.model, pictures))
    record = replace(shrunk.drawn.record, clipped=most_clipped(shrunk.calibrated, shares))
    allow = shrunk.plan.options.calibration.allow
    drawn = judged(replace(shrunk.drawn, record=record), check_fidelity(fidelity), allow)
    return replace(shrunk, drawn=drawn), fidelity


def _measure(shrunk: _Shrunk, path: Path, flavours: list[str], stage: Stage) -> Measured:
    """Accuracy and latency of every graph."""
    plan, images = shrunk.plan, shrunk.drawn.record.images
    frames = [read_image(plan.options.calibration.folder / image.name) for image in images[:_TIMED_PICTURES]]
    return measure_bundle(path, flavours, plan.evaluation, stage, timed=(FLOAT, CPU), frames=frames)


def _report(
    output: Path, graphs: Mapping[str, bytes], parities: Mapping[str, Parity], measured: Measured, shrunk: _Shrunk,
    fidelity: Mapping[str, Fidelity],
) -> Report:  # fmt: skip
    flavours = {
        name: FlavourReport(
            len(data), parities[name], measured.metrics(name), measured.latency_p50_ms(name), fidelity.get(name)
        )
        for name, data in graphs.items()
    }
    speedup = median_ratio(measured.latency_ms, FLOAT, CPU)
    return Report(output, flavours, speedup, shrunk.drawn, shrunk.tuned, shrunk.pruned, shrunk.refined)
