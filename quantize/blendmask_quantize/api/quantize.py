"""`quantize`: make an INT8 bundle from a checkpoint and calibration images; `explain`: say how, and do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blendmask_quantize.api.arguments import (
    AnyCheckpoint,
    AnyConfig,
    Source,
    as_dataset,
    as_progress,
    changed,
    check_checkpoint,
    check_classes,
    check_output,
    check_size,
    known_config,
    open_checkpoint,
)
from blendmask_quantize.api.quantize_options import check_options, open_evaluations
from blendmask_quantize.api.recipes import AnyRecipe, load_recipe
from blendmask_quantize.api.values import as_path
from blendmask_quantize.checkpoints.class_names import ClassNames
from blendmask_quantize.pipeline.options import PathLike, QuantizeOptions
from blendmask_quantize.pipeline.recipe import Recipe
from blendmask_quantize.runs.progress import Progress

if TYPE_CHECKING:
    from blendmask_quantize.pipeline.job import Job
    from blendmask_quantize.pipeline.plan import Plan
    from blendmask_quantize.pipeline.report import Report


def quantize(
    checkpoint: AnyCheckpoint, calibration: Source, output: PathLike, recipe: AnyRecipe = "ptq", *,
    config: AnyConfig = None, classes: ClassNames | None = None, options: QuantizeOptions | None = None,
    progress: Progress | None = None, **changes: Any,
) -> Report:  # fmt: skip
    """Quantize a checkpoint to INT8, write the bundle and measure it.

    Args:
        checkpoint: path of a checkpoint, or a loaded checkpoint.
        calibration: folder of images, `CalibrationDataset`, or iterable of images, (H, W, 3) uint8 RGB.
        output: path of the bundle to write, e.g. "model.bmz".
        recipe: "ptq" (calibration and refinement without training), "qat" (then training with fake quantizers) or
            "edge" (pruning and fine-tuning first), "edge-sparse" (also with 2:4 sparse weights), the path of a YAML
            file, or a value, as for `load_recipe`.
        config: configuration of a checkpoint that does not store its own, as for `load_checkpoint`.
        classes: class names of a checkpoint that does not store its own, as for `load_checkpoint`; None takes those of
            the annotations for training or evaluation.
        options: all other options; None takes the defaults.
        progress: callback for each stage: takes its name and its number of steps, and returns a function that is called
            after each step.
        **changes: fields of `QuantizeOptions`, which override those of `options`.

    Returns:
        Sizes, accuracy, latency, and the findings of all checks.

    Raises:
        CheckpointError: the checkpoint cannot be read, or there is an unfinished run for the same output.
        CalibrationError: a check refuses the images or the quantized network; pass its code in `allow` to override it.
        ConfigError: an argument is invalid or does not apply to the recipe.
        AnnotationError: the annotations cannot be read, or do not match the images or the classes.
        OutputError: the bundle cannot be written.

    Example:
        >>> from blendmask_quantize import quantize
        >>> report = quantize("checkpoint.safetensors", "images", "int8.bmz", allow=("few-images",))
        >>> report.bundle.name, list(report.variants)
        ('int8.bmz', ['float', 'cpu', 'tensorrt'])
    """
    chosen, job = _prepare(
        checkpoint, calibration, output, recipe, config, classes, options, changes, as_progress(progress)
    )
    from blendmask_quantize.pipeline.run import run

    return run(chosen, job)


def explain(
    checkpoint: AnyCheckpoint, calibration: Source, output: PathLike, recipe: AnyRecipe = "ptq", *,
    config: AnyConfig = None, classes: ClassNames | None = None, options: QuantizeOptions | None = None,
    progress: Progress | None = None, **changes: Any,
) -> Plan:  # fmt: skip
    """Plan what `quantize` would do with the same arguments, which are checked as there.

    Nothing is done or written, but that the time of the INT8 graph is measured, and kept in the cache of this machine.

    Args:
        checkpoint, calibration, output, recipe, config, classes, options, progress, changes: as for `quantize`.

    Returns:
        Settings and stages of the recipe, expected multiply-accumulates and latency, and the layers that stay float.

    Raises:
        BlendMaskError: as `quantize` would before its first stage.

    Example:
        >>> from blendmask_quantize import explain
        >>> plan = explain("checkpoint.safetensors", "images", "model.bmz")
        >>> plan.stages[1]
        'estimate ranges: mse'
        >>> "top_layer" in plan.float_layers
        True
    """
    chosen, job = _prepare(
        checkpoint, calibration, output, recipe, config, classes, options, changes, as_progress(progress)
    )
    from blendmask_quantize.pipeline.plan import make_plan

    return make_plan(chosen, job)


def _prepare(
    checkpoint: AnyCheckpoint, calibration: Source, output: PathLike, recipe: AnyRecipe, config: AnyConfig,
    classes: ClassNames | None, options: QuantizeOptions | None, changes: dict[str, Any], progress: Progress,
) -> tuple[Recipe, Job]:  # fmt: skip
    """The recipe with the options in place of its own settings, and the job, both checked."""
    check_checkpoint(checkpoint)
    base, path = load_recipe(recipe), as_path("output", output)
    wanted = changed(options, QuantizeOptions(), changes, "quantize")
    chosen = check_options(base, wanted)
    if wanted.teacher is not None:
        check_checkpoint(wanted.teacher, "teacher")
    check_size(known_config(checkpoint, config), wanted.size)
    labels = check_classes(checkpoint, classes)
    dataset = as_dataset(calibration)
    check_output(path, inputs=(checkpoint, config, classes, recipe, *wanted.annotation_files))
    evaluation = open_evaluations(wanted)
    from blendmask_quantize.pipeline.job import make_job

    loaded = open_checkpoint(checkpoint, config, labels, wanted.annotation_files)
    teacher = None if wanted.teacher is None else open_checkpoint(wanted.teacher, None, loaded.labels)
    return chosen, make_job(loaded, dataset, path, chosen, wanted, evaluation, progress, teacher)
