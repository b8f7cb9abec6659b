"""What is to be quantized and how, found possible before long work."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import fx

from blendmask_edge.bundle.manifest import MAX_SIDE
from blendmask_edge.errors import AnnotationError, ConfigError, OutputError
from blendmask_edge.storage.atomic import output_error
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.export.deployable import Bounds, DeployableGraph
from blendmask_quantize.model.config import InputConfig
from blendmask_quantize.model.macs import padded_test_size
from blendmask_quantize.pipeline.calibration_set import CalibrationOptions
from blendmask_quantize.pipeline.recipes import Recipe, get_recipe
from blendmask_quantize.pruning.channel_pruning import check_ratio
from blendmask_quantize.pruning.job import PruneOptions
from blendmask_quantize.quantization.qat.options import QatOptions
from blendmask_quantize.quantization.refine.steps import Step, chosen_steps
from blendmask_quantize.runs.run_folder import RunFolder, Setting
from blendmask_quantize.validation.measure import Evaluation, EvaluationData


@dataclass(frozen=True)
class QuantizeOptions:
    """What `quantize` does.

    Attributes:
        calibration: which images give the ranges.
        recipe: name of the recipe.
        size: height and width of the network input; None takes the test size for a 4:3 image.
        bounds: sizes of the selection.
        evaluation: what to measure on; None measures no accuracy.
        keep_float: leave the float graph in the bundle.
        license: SPDX name of the model's license.
        annotations: COCO instances JSON of the calibration images, for recipes that train; None trains against the
            float network alone, which is not enough for recipes that prune.
        pruning: for recipes that prune; None takes the defaults.
        qat_options: how recipes that train do it with quantizers in place.
        resume: go on where training for this output was cut off.
        steps: names of the steps of refinement; None takes the recipe's.
    """

    calibration: CalibrationOptions
    recipe: str = "ptq"
    size: tuple[int, int] | None = None
    bounds: Bounds = field(default_factory=Bounds)
    evaluation: EvaluationData | None = None
    keep_float: bool = False
    license: str = "unspecified"
    annotations: Path | None = None
    pruning: PruneOptions | None = None
    qat_options: QatOptions = field(default_factory=QatOptions)
    resume: bool = False
    steps: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be done, found possible before long work.

    Attributes:
        size: height and width of the network input.
        bounds: sizes of the selection at this size.
        run: folder of the run, for recipes that train.
        evaluation: what accuracy is measured on.
        steps: of refinement after calibration.
    """

    checkpoint: Checkpoint
    options: QuantizeOptions
    recipe: Recipe
    size: tuple[int, int]
    bounds: Bounds
    run: RunFolder | None
    evaluation: Evaluation | None
    steps: tuple[Step, ...]

    def graph(self, network: fx.GraphModule, *, live_rows: bool = False) -> DeployableGraph:
        """The deployable graph around a network; see `DeployableGraph`."""
        asked = self.options.bounds
        return DeployableGraph(self.checkpoint.model, network, self.size, asked, live_rows=live_rows).eval()


def make_plan(checkpoint: Checkpoint, output: Path, options: QuantizeOptions) -> Plan:
    """See that all can be done, as far as that can be told without looking at the calibration images.

    Raises:
        ConfigError: unknown recipe or step, an input size that the network cannot take, a ratio that pruning cannot
            reach, or options of training or pruning for a recipe that does not train or prune.
        AnnotationError: the evaluation data do not fit, or there are no labels to read.
        CheckpointError: an unfinished run lies beside the output, or one of other options is to be resumed.
        OutputError: the bundle cannot be written, or its disk or that of temporary files has no room for it.
    """
    recipe, config = get_recipe(options.recipe), checkpoint.config
    size, data = input_size(config.input, options.size), options.evaluation
    _check_output(output)
    _check_room(output.parent, checkpoint, "make room, or choose another folder for the output")
    _check_room(Path(tempfile.gettempdir()), checkpoint, "make room, or set TMPDIR to another folder")
    _check_options(recipe, options)
    names = recipe.steps if options.steps is None else options.steps
    steps = tuple(chosen_steps(names, options.calibration.estimator))
    if recipe.prunes and options.pruning is None:
        options = replace(options, pruning=PruneOptions())
    run = RunFolder.beside(output, f"blendmask quantize --recipe {recipe.name}", _settings(checkpoint, options, steps))
    if recipe.trains:
        run.check(resume=options.resume)
    if options.pruning is not None:
        check_ratio(checkpoint.model, options.pruning.ratio)
    evaluation = data.open(checkpoint.labels) if data is not None else None
    bounds = options.bounds.within(config, size)
    return Plan(checkpoint, options, recipe, size, bounds, run if recipe.trains else None, evaluation, steps)


def _check_output(output: Path) -> None:
    """See that a file can be made there, whatever the reason why not."""
    if output.is_dir():
        raise OutputError(f"the output {output} is a folder: give the path of a file, e.g. model.bmz")
    try:
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise output_error(output, error) from error


def _check_room(folder: Path, checkpoint: Checkpoint, advice: str) -> None:
    """See that a folder has room for the weights of both INT8 graphs, one byte each."""
    needed, free = 2 * sum(weight.numel() for weight in checkpoint.model.parameters()), shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"the disk of {folder.absolute()} has {free / 1e6:.1f} MB free, {needed / 1e6:.1f} MB are needed at the "
            f"least: {advice}"
        )


def _check_options(recipe: Recipe, options: QuantizeOptions) -> None:
    if not recipe.trains and (options.annotations is not None or options.resume):
        given = "--annotations" if options.annotations is not None else "--resume"
        raise ConfigError(f"{given} is of no use to recipe {recipe.name}, which does not train: use --recipe qat")
    if not recipe.prunes and options.pruning is not None:
        raise ConfigError(
            f"--macs and --prune-iterations are of no use to recipe {recipe.name}, which does not prune: use "
            "--recipe edge, or leave them out"
        )
    if recipe.prunes and options.annotations is None:
        raise ConfigError(
            f"recipe {recipe.name} prunes, which needs labels to train on: give --annotations, the COCO instances JSON "
            "of the images in the --calibration folder"
        )


def _settings(checkpoint: Checkpoint, options: QuantizeOptions, steps: Sequence[Step]) -> dict[str, Setting]:
    """What ranges and pruning depend on. What else training with quantization depends on is in its own checkpoint."""
    how = options.calibration
    ranges: dict[str, Setting] = {
        "calibration count": how.count,
        "calibration seed": how.seed,
        "estimator": how.estimator,
        "list of steps": ", ".join(step.name for step in steps),
    }
    if options.pruning is None or options.annotations is None:
        return ranges
    try:
        labels = hashlib.sha256(options.annotations.read_bytes()).hexdigest()
    except OSError as error:
        raise AnnotationError(f"{options.annotations} cannot be read ({error}): give an instances JSON") from error
    qat_options = options.qat_options
    held_out = f"{qat_options.held_share} up to {qat_options.held_most}, seed {qat_options.training.seed}"
    pruning = options.pruning.settings(checkpoint)
    return {**ranges, **pruning, "annotations file": labels, "choice of held-out images": held_out}


def input_size(config: InputConfig, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the network input: what was asked for, or the padded test size of a 4:3 image.

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
