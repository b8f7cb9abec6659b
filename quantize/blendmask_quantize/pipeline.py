"""One way from a checkpoint and pictures to a bundle with its measured accuracy."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from blendmask_edge import MaskPredictor
from blendmask_edge.bundle.manifest import Measurement
from blendmask_edge.bundle.writer import write_bundle
from blendmask_edge.errors import ConfigError, OutputError
from blendmask_edge.imaging import read_image, resized_size
from blendmask_quantize.calibration_set import CalibrationOptions, CalibrationSet, for_users, load_calibration_set
from blendmask_quantize.evaluate import collect_results, image_ids, score
from blendmask_quantize.export.bundle import Description, make_manifest
from blendmask_quantize.export.deployable import Bounds, DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.export.parity import Parity, check_parity
from blendmask_quantize.latency import interleaved_latency, median_ratio
from blendmask_quantize.model.checkpoint import Checkpoint
from blendmask_quantize.model.config import InputConfig
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.shrink.graph import trace_network
from blendmask_quantize.shrink.placement import FLAVOURS
from blendmask_quantize.shrink.ptq import Calibrated, observe_ranges
from blendmask_quantize.shrink.recipe import Recipe, get_recipe
from blendmask_quantize.train.data import read_coco
from blendmask_quantize.train.loop import check_unfinished, remove_run
from blendmask_quantize.tune.judge import GraphPredictor, MaskJudge
from blendmask_quantize.tune.material import Material, check_apart, labelled_material, plain_material
from blendmask_quantize.tune.options import TuneOptions
from blendmask_quantize.tune.run import Tuned, tune

OnStep = Callable[[], None]
Stage = Callable[[str, int], OnStep]
"""Announces a stage with its number of steps; returns what to call after each step."""

FLOAT = "float"
RUNTIME = "onnxruntime"
"""What measures a bundle, so that its numbers do not depend on what else is installed."""
_TIMED_PICTURES = 12


@dataclass(frozen=True)
class EvaluationData:
    """Annotated pictures that the bundle is measured on: a folder, its COCO JSON, a name for the manifest."""

    images: Path
    annotations: Path

    @property
    def name(self) -> str:
        """Folder and annotation file, without where they lie."""
        return f"{self.images.name} ({self.annotations.name})"


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
        CalibrationError: the guard refuses the pictures.
        ConfigError: unknown recipe or estimator, an input size that the network cannot take, or options of training
            for a recipe that does not train.
        AnnotationError: the evaluation data do not fit, or are trained on, or the labels to train on do not fit.
        CheckpointError: an unfinished run lies beside the output, or one of other options is to be resumed.
        DivergedError: training came to a loss that is no number.
        ParityError: an exported graph disagrees with the network.
        OutputError: the bundle cannot be written.
    """
    recipe = get_recipe(options.recipe)
    config = checkpoint.config
    size = input_size(config.input, options.size)
    work = output.with_suffix(".run")
    _check_output(output)
    _check_training(recipe, options, work)
    if options.evaluation is not None:
        image_ids(read_coco(options.evaluation.annotations), options.evaluation.images)
    drawn = load_calibration_set(options.calibration, size, pad_value(config.input))
    traced = trace_network(checkpoint.model)
    material = _material(checkpoint, traced, size, options) if recipe.tunes else None
    on_step = stage("calibrating", len(drawn.pictures))
    inputs = (normalised(checkpoint, picture) for picture in drawn.pictures)
    with for_users():
        calibrated = Calibrated(traced, observe_ranges(traced, inputs, options.calibration.estimator, on_step))
    tuned = _tune(checkpoint, calibrated, material, size, options, work, stage) if material is not None else None
    shrunk = calibrated if tuned is None else tuned.calibrated
    networks = {FLOAT: traced} | {flavour: shrunk.render(flavour) for flavour in FLAVOURS}
    graphs, parities = _export(checkpoint, networks, size, options.bounds, drawn.pictures[0], stage)
    recipe_options: dict[str, Any] = {"estimator": options.calibration.estimator}
    if tuned is not None:
        recipe_options["tuning"] = tuned.record()
    about = Description(
        checkpoint, size, options.bounds, recipe, recipe_options, drawn.record, shrunk.ranges, options.licence
    )
    measured = _measure(about, graphs, options, stage)
    kept = {flavour: data for flavour, data in graphs.items() if flavour != FLOAT or options.keep_float}
    metrics = {flavour: measured.entries[flavour] for flavour in kept if flavour in measured.entries}
    write_bundle(output, make_manifest(about, kept, metrics), kept)
    if tuned is not None:
        remove_run(work)
    reports = {
        flavour: FlavourReport(
            len(data), parities[flavour], measured.metrics.get(flavour, {}), measured.latency.get(flavour)
        )
        for flavour, data in graphs.items()
    }
    return Report(output, reports, measured.speedup, drawn, tuned)


def input_size(config: InputConfig, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the network input: what was asked for, or the padded test size of a 4:3 picture.

    Raises:
        ConfigError: a side is no multiple of the divisor.
    """
    divisor = config.divisor
    if wanted is None:
        sides = resized_size(480, 640, config.test_short, config.test_long)
        return -(-sides[0] // divisor) * divisor, -(-sides[1] // divisor) * divisor
    if any(side <= 0 or side % divisor for side in wanted):
        near = tuple(max(divisor, round(side / divisor) * divisor) for side in wanted)
        raise ConfigError(
            f"the input size {wanted[0]}x{wanted[1]} has a side that is no multiple of {divisor}: "
            f"use {near[0]}x{near[1]}"
        )
    return wanted


def normalised(checkpoint: Checkpoint, picture: NDArray[np.uint8]) -> torch.Tensor:
    """Network input (1, 3, H, W) from a prepared picture, uint8 (1, H, W, 3) RGB."""
    return checkpoint.model.normalise(torch.from_numpy(picture).permute(0, 3, 1, 2))


def _check_output(output: Path) -> None:
    if output.is_dir() or not output.parent.is_dir():
        found = "is a folder" if output.is_dir() else "lies in a folder that does not exist"
        raise OutputError(f"the output {output} {found}: give the path of a file, e.g. model.bmz")


def _check_training(recipe: Recipe, options: QuantizeOptions, work: Path) -> None:
    if recipe.tunes:
        check_unfinished(work, options.resume)
    elif options.annotations is not None or options.resume:
        given = "--annotations" if options.annotations is not None else "--resume"
        raise ConfigError(f"{given} is of no use to recipe {recipe.name}, which does not train: use --recipe qat")


def _material(
    checkpoint: Checkpoint, traced: fx.GraphModule, size: tuple[int, int], options: QuantizeOptions
) -> Material:
    folder = options.calibration.folder
    if options.annotations is not None:
        material = labelled_material(folder, options.annotations, checkpoint, options.tuning)
    else:
        material = plain_material(folder, checkpoint, GraphPredictor(checkpoint, traced, size), options.tuning)
    if options.evaluation is not None:
        images = read_coco(options.evaluation.annotations).imgs.values()
        check_apart(material, folder, [options.evaluation.images / image["file_name"] for image in images])
    return material


def _tune(
    checkpoint: Checkpoint, calibrated: Calibrated, material: Material, size: tuple[int, int],
    options: QuantizeOptions, work: Path, stage: Stage,
) -> Tuned:  # fmt: skip
    on_step = stage("training with quantisation", options.tuning.training.iterations)
    on_image = stage("judging on held-out pictures", 2 * len(FLAVOURS) * len(material.truth.ids))
    judge = MaskJudge(checkpoint, size, material.truth, on_image)
    return tune(
        checkpoint, calibrated, material, judge, options.tuning, work, resume=options.resume,
        on_step=lambda *_: on_step(),
    )  # fmt: skip


def _export(
    checkpoint: Checkpoint, networks: dict[str, fx.GraphModule], size: tuple[int, int], bounds: Bounds,
    picture: NDArray[np.uint8], stage: Stage,
) -> tuple[dict[str, bytes], dict[str, Parity]]:  # fmt: skip
    graphs, parities = {}, {}
    on_step = stage("exporting", len(networks))
    for flavour, network in networks.items():
        graph = DeployableGraph(checkpoint.model, network, size, bounds).eval()
        exported = export_onnx(graph)
        parities[flavour] = check_parity(graph, exported, picture)
        graphs[flavour] = exported.SerializeToString()
        on_step()
    return graphs, parities


@dataclass(frozen=True)
class _Measured:
    metrics: dict[str, dict[str, float]]
    entries: dict[str, list[Measurement]]
    latency: dict[str, float]
    speedup: float


def _measure(about: Description, graphs: dict[str, bytes], options: QuantizeOptions, stage: Stage) -> _Measured:
    """Accuracy and latency of every graph as the SDK runs it, from a bundle that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_bundle(Path(folder) / "all.bmz", make_manifest(about, graphs, {}), graphs)
        predictors = {flavour: MaskPredictor(path, RUNTIME, flavour=flavour) for flavour in graphs}
        metrics, entries = _accuracy(predictors, options.evaluation, stage)
        timed = {flavour: predictors[flavour] for flavour in (FLOAT, "cpu")}
        times = interleaved_latency(timed, _timed_pictures(options))
        for predictor in predictors.values():
            predictor.close()
    latency = {name: statistics.median(values) for name, values in times.items()}
    return _Measured(metrics, entries, latency, median_ratio(times, FLOAT, "cpu"))


def _accuracy(
    predictors: dict[str, MaskPredictor], data: EvaluationData | None, stage: Stage
) -> tuple[dict[str, dict[str, float]], dict[str, list[Measurement]]]:
    if data is None:
        return {}, {}
    coco = read_coco(data.annotations)
    ids = image_ids(coco, data.images)
    on_step = stage("evaluating", len(ids) * len(predictors))
    metrics = {
        flavour: score(coco, collect_results(predictor, data.images, coco, ids, on_step), ids)
        for flavour, predictor in predictors.items()
    }
    entries = {
        flavour: [Measurement(data=data.name, images=len(ids), metrics=found)] for flavour, found in metrics.items()
    }
    return metrics, entries


def _timed_pictures(options: QuantizeOptions) -> list[NDArray[np.uint8]]:
    folder = options.evaluation.images if options.evaluation is not None else options.calibration.folder
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [read_image(path) for path in paths[:_TIMED_PICTURES]]
