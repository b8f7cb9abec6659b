"""`quantize`: from a checkpoint and calibration images to a bundle."""

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
from blendmask_quantize.api.values import TEXT, as_path
from blendmask_quantize.checkpoints.class_names import ClassNames
from blendmask_quantize.pipeline.options import PathLike, QuantizeOptions
from blendmask_quantize.pipeline.recipe import get_recipe
from blendmask_quantize.runs.progress import Progress

if TYPE_CHECKING:
    from blendmask_quantize.pipeline.report import Report


def quantize(
    checkpoint: AnyCheckpoint, calibration: Source, output: PathLike, recipe: str = "ptq", *, config: AnyConfig = None,
    classes: ClassNames | None = None, options: QuantizeOptions | None = None,
    progress: Progress | None = None, **changes: Any,
) -> Report:  # fmt: skip
    """Quantize a checkpoint to INT8 by a recipe, and write and measure the bundle.

    Args:
        checkpoint: path of a checkpoint, or a loaded one.
        calibration: folder of images, a `CalibrationDataset`, or an iterable of images (H, W, 3) uint8 RGB.
        output: path of the bundle, e.g. "model.bmz".
        recipe: "ptq", "qat" or "edge".
        config: name or YAML of the configuration, for a path to a checkpoint that does not name its own.
        classes: of a checkpoint that does not name its own, as for `load_checkpoint`; None takes those of the
            annotations that are given to train or to measure on.
        options: everything else.
        progress: called with the name and the number of steps of each stage; returns a callable for each step.
        **changes: fields of `QuantizeOptions`, in place of those of `options`, e.g. `ignored=("backbone.stem",)`.

    Returns:
        What was done and measured.

    Raises:
        CheckpointError: the checkpoint cannot be read, or an unfinished run lies beside the output.
        CalibrationError: the guard refuses the images or the quantized network.
        ConfigError: an argument is not possible, or does not apply to the recipe.
        AnnotationError: annotations do not fit.
        OutputError: the bundle cannot be written.

    Example:
        >>> quantize("model.safetensors", "photos", "model.bmz", ignored=("backbone.stem",))  # doctest: +SKIP
    """
    check_checkpoint(checkpoint)
    TEXT.check("recipe", recipe)
    chosen, path = get_recipe(recipe), as_path("output", output)
    wanted = changed(options, QuantizeOptions(), changes, "quantize")
    check_options(chosen, wanted)
    check_size(known_config(checkpoint, config), wanted.size)
    labels, on_stage = check_classes(classes), as_progress(progress)
    dataset = as_dataset(calibration)
    check_output(path)
    evaluation = open_evaluations(wanted)
    from blendmask_quantize.pipeline.job import make_job
    from blendmask_quantize.pipeline.run import run

    loaded = open_checkpoint(checkpoint, config, labels, wanted.annotation_files)
    return run(make_job(loaded, dataset, path, chosen, wanted, evaluation, on_stage))
