"""One way from a checkpoint and pictures to a bundle with its measured accuracy."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from blendmask_edge.bundle.atomic import output_error
from blendmask_edge.bundle.manifest import MAX_SIDE
from blendmask_edge.bundle.writer import write_bundle
from blendmask_edge.errors import ConfigError, OutputError
from blendmask_edge.imaging import read_image
from blendmask_quantize.calibration_set import (
    CalibrationOptions,
    CalibrationSet,
    for_users,
    judge_detections,
    load_calibration_set,
)
from blendmask_quantize.export.bundle import Description, make_manifest
from blendmask_quantize.export.deployable import Bounds, DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.export.parity import Parity, check_parity
from blendmask_quantize.latency import median_ratio
from blendmask_quantize.measure import Evaluation, EvaluationData, Measured, Stage, measure_bundle
from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.model.checkpoint import Checkpoint
from blendmask_quantize.model.config import InputConfig
from blendmask_quantize.model.macs import padded_test_size
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.shrink.graph import trace_network
from blendmask_quantize.shrink.placement import FLAVOURS
from blendmask_quantize.shrink.ptq import Calibrated, observe_ranges
from blendmask_quantize.shrink.recipe import Recipe, get_recipe
from blendmask_quantize.train.loop import check_unfinished, remove_run
from blendmask_quantize.tune.judge import GraphPredictor, MaskJudge
from blendmask_quantize.tune.material import Material, check_apart, labelled_material, plain_material
from blendmask_quantize.tune.options import TuneOptions
from blendmask_quantize.tune.run import Tuned, tune

FLOAT, CPU = "float", "cpu"
_TIMED_PICTURES = 12


@dataclass(frozen=True)
class QuantizeOptions:
    """What `quantize` does.

    Attributes:
        calibration: which pictures give the ranges.
        recipe: name of the recipe.
        size: height and width of the network input; None takes the test size for a 4:3 picture.
        bounds: sizes of the selection.
        evaluation: what to measure on; None measures no accuracy.
        keep_float: leave the float graph in the bundle.
        licence: SPDX name of the model's licence.
        annotations: COCO instances JSON of the calibration pictures, for recipes that train; None trains against the
            float network alone.
        tuning: how recipes that train do it.
        resume: go on where training for this output was cut off.
    """

    calibration: CalibrationOptions
    recipe: str = "ptq"
    size: tuple[int, int] | None = None
    bounds: Bounds = field(default_factory=Bounds)
    evaluation: EvaluationData | None = None
    keep_float: bool = False
    licence: str = "unspecified"
    annotations: Path | None = None
    tuning: TuneOptions = field(default_factory=TuneOptions)
    resume: bool = False


@dataclass(frozen=True)
class FlavourReport:
    """One graph: bytes, parity with its torch graph, accuracy (empty if not measured), latency (None if not timed)."""

    size_bytes: int
    parity: Parity
    metrics: dict[str, float]
    latency_p50_ms: float | None


@dataclass(frozen=True)
class Report:
    """What `quantize` did.

    Attributes:
        bundle: path of the file.
        flavours: by name, `float` included for comparison.
        speedup: float over `cpu` latency, median of interleaved frames.
        calibration: the set that was used.
        tuned: what training came to, for recipes that train.
    """

    bundle: Path
    flavours: dict[str, FlavourReport]
    speedup: float
    calibration: CalibrationSet
    tuned: Tuned | None = None


def quantize(checkpoint: Checkpoint, output: Path, options: QuantizeOptions, stage: Stage) -> Report:
    """Shrink a checkpoint by a recipe and write the bundle.

    Raises:
        CalibrationError: the guard refuses the pictures, or no estimator has that name.
        ConfigError: unknown recipe, an input size that the network cannot take, or options of training for a recipe
            that does not train.
        AnnotationError: the evaluation data do not fit, or are trained on, or the labels to train on do not fit.
        CheckpointError: an unfinished run lies beside the output, or one of other options is to be resumed.
        DivergedError: training came to a loss that is no number.
        ParityError: an exported graph disagrees with the network.
        OutputError: the bundle cannot be written.
    """
    plan = _plan(checkpoint, output, options)
    traced = trace_network(checkpoint.model)
    drawn = load_calibration_set(
        options.calibration, plan.size, pad_value(checkpoint.config.input), lambda total: stage("reading", total)
    )
    material = _material(plan, traced) if plan.recipe.tunes else None
    calibrated, counts = _calibrate(plan, traced, drawn, stage)
    drawn = judge_detections(drawn, counts, options.calibration.allow)
    tuned = _tune(plan, calibrated, material, stage) if material is not None else None
    shrunk = calibrated if tuned is None else tuned.calibrated
    networks = {FLOAT: traced} | {flavour: shrunk.render(flavour) for flavour in FLAVOURS}
    graphs, parities = _export(plan, networks, drawn.pictures[int(np.argmax(counts))], stage)
    about = _describe(plan, drawn, shrunk, tuned)
    measured = _measure(plan, about, graphs, drawn, stage)
    kept = {flavour: data for flavour, data in graphs.items() if flavour != FLOAT or options.keep_float}
    metrics = {flavour: [found] for flavour, found in measured.accuracy.items() if flavour in kept}
    write_bundle(output, make_manifest(about, kept, metrics), kept)
    if tuned is not None:
        remove_run(plan.work)
    return _report(output, graphs, parities, measured, drawn, tuned)


def input_size(config: InputConfig, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the network input: what was asked for, or the padded test size of a 4:3 picture.

    Raises:
        ConfigError: a side is no multiple of the divisor, or longer than a bundle may say.
    """
    divisor = config.divisor
    if wanted is None:
        return padded_test_size(config)
    near = tuple(min(max(divisor, round(side / divisor) * divisor), MAX_SIDE) for side in wanted)
    if near != wanted:
        raise ConfigError(
            f"the input size {wanted[0]}x{wanted[1]} has a side that is no multiple of {divisor} up to {MAX_SIDE}: "
            f"use {near[0]}x{near[1]}"
        )
    return wanted


def normalised(checkpoint: Checkpoint, picture: NDArray[np.uint8]) -> torch.Tensor:
    """Network input (1, 3, H, W) from a prepared picture, uint8 (1, H, W, 3) RGB."""
    return checkpoint.model.normalise(torch.from_numpy(picture).permute(0, 3, 1, 2))


@dataclass(frozen=True)
class _Plan:
    """What is to be done, found possible before long work.

    Attributes:
        size: height and width of the network input.
        bounds: sizes of the selection at this size.
        work: folder of a run of training.
        evaluation: what accuracy is measured on.
    """

    checkpoint: Checkpoint
    options: QuantizeOptions
    recipe: Recipe
    size: tuple[int, int]
    bounds: Bounds
    work: Path
    evaluation: Evaluation | None

    def graph(self, network: fx.GraphModule) -> DeployableGraph:
        """The deployable graph around a network."""
        return DeployableGraph(self.checkpoint.model, network, self.size, self.bounds).eval()


def _plan(checkpoint: Checkpoint, output: Path, options: QuantizeOptions) -> _Plan:
    recipe, config = get_recipe(options.recipe), checkpoint.config
    size, work, data = input_size(config.input, options.size), output.with_suffix(".run"), options.evaluation
    _check_output(output)
    _check_training(recipe, options, work)
    evaluation = data.open(checkpoint.labels) if data is not None else None
    return _Plan(checkpoint, options, recipe, size, options.bounds.within(config, size), work, evaluation)


def _check_output(output: Path) -> None:
    """See that a file can be made there, whatever the reason why not."""
    if output.is_dir():
        raise OutputError(f"the output {output} is a folder: give the path of a file, e.g. model.bmz")
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise output_error(output, error) from error


def _check_training(recipe: Recipe, options: QuantizeOptions, work: Path) -> None:
    if recipe.tunes:
        check_unfinished(work, options.resume)
    elif options.annotations is not None or options.resume:
        given = "--annotations" if options.annotations is not None else "--resume"
        raise ConfigError(f"{given} is of no use to recipe {recipe.name}, which does not train: use --recipe qat")


def _material(plan: _Plan, traced: fx.GraphModule) -> Material:
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


def _calibrate(
    plan: _Plan, traced: fx.GraphModule, drawn: CalibrationSet, stage: Stage
) -> tuple[Calibrated, list[int]]:
    """Ranges, and how many objects the float network finds on each picture."""
    counts: list[int] = []
    finder, on_step = plan.graph(traced), stage("calibrating", len(drawn.pictures))

    def on_image(predictions: Predictions) -> None:
        counts.append(int((finder.suppress(finder.select(predictions)).score > 0).sum()))
        on_step()

    inputs = (normalised(plan.checkpoint, picture) for picture in drawn.pictures)
    with for_users():
        return Calibrated(traced, observe_ranges(traced, inputs, plan.options.calibration.estimator, on_image)), counts


def _tune(plan: _Plan, calibrated: Calibrated, material: Material, stage: Stage) -> Tuned:
    tuning = plan.options.tuning
    on_step = stage("training with quantisation", tuning.training.iterations)
    on_image = stage("judging on held-out pictures", 2 * len(FLAVOURS) * len(material.truth.ids))
    judge = MaskJudge(plan.checkpoint, plan.size, material.truth, on_image)
    return tune(
        plan.checkpoint, calibrated, material, judge, tuning, plan.work, resume=plan.options.resume,
        on_step=lambda *_: on_step(),
    )  # fmt: skip


def _export(
    plan: _Plan, networks: Mapping[str, fx.GraphModule], picture: NDArray[np.uint8], stage: Stage
) -> tuple[dict[str, bytes], dict[str, Parity]]:
    """ONNX of each network, and how it compares on `picture`."""
    graphs, parities = {}, {}
    on_step = stage("exporting", len(networks))
    for flavour, network in networks.items():
        graph = plan.graph(network)
        exported = export_onnx(graph)
        parities[flavour] = check_parity(graph, exported, picture)
        graphs[flavour] = exported.SerializeToString()
        on_step()
    return graphs, parities


def _describe(plan: _Plan, drawn: CalibrationSet, shrunk: Calibrated, tuned: Tuned | None) -> Description:
    estimator = plan.options.calibration.estimator
    changed: dict[str, Any] = {} if estimator == CalibrationOptions.estimator else {"estimator": estimator}
    if tuned is not None:
        changed["tuning"] = tuned.record()
    return Description(
        plan.checkpoint, plan.size, plan.bounds, plan.recipe, changed, drawn.record, shrunk.ranges, plan.options.licence
    )


def _measure(
    plan: _Plan, about: Description, graphs: Mapping[str, bytes], drawn: CalibrationSet, stage: Stage
) -> Measured:
    """Accuracy and latency of every graph as the SDK runs it, from a bundle that is thrown away."""
    folder = plan.options.calibration.folder
    frames = [read_image(folder / image.name) for image in drawn.record.images[:_TIMED_PICTURES]]
    with tempfile.TemporaryDirectory() as scratch:
        path = write_bundle(Path(scratch) / "all.bmz", make_manifest(about, graphs, {}), graphs)
        return measure_bundle(path, list(graphs), plan.evaluation, stage, timed=(FLOAT, CPU), frames=frames)


def _report(
    output: Path, graphs: Mapping[str, bytes], parities: Mapping[str, Parity], measured: Measured,
    drawn: CalibrationSet, tuned: Tuned | None,
) -> Report:  # fmt: skip
    flavours = {
        name: FlavourReport(len(data), parities[name], measured.metrics(name), measured.latency_p50_ms(name))
        for name, data in graphs.items()
    }
    return Report(output, flavours, median_ratio(measured.latency_ms, FLOAT, CPU), drawn, tuned)
