"""Checks of the options of `quantize`, all before torch is loaded."""

from __future__ import annotations

import math
from pathlib import Path

from blendmask_edge.errors import ConfigError
from blendmask_edge.execution.choice import choose_executor
from blendmask_quantize.api.arguments import check_annotations, check_images
from blendmask_quantize.api.prune import check_pruning
from blendmask_quantize.api.values import (
    FLAG,
    PATH,
    PATTERN,
    SIZE,
    TEXT,
    Kind,
    check_all,
    each,
    number,
    one_line,
    whole,
)
from blendmask_quantize.model.patterns import parse_pattern
from blendmask_quantize.pipeline.calibration_set import COUNT_MOST, check_calibration_settings
from blendmask_quantize.pipeline.options import CANDIDATES_MOST, QuantizeOptions
from blendmask_quantize.pipeline.recipe import Recipe
from blendmask_quantize.pipeline.recipes.edge import Edge
from blendmask_quantize.pruning.options import LATENCY, UNTIMED_RUNTIME
from blendmask_quantize.quantization.refine.names import check_step_names
from blendmask_quantize.validation.measure import Evaluation, open_evaluation

_DROP = Kind(
    lambda value: number(0.001, 1).fits(value) and value < 1,
    "a share of the mask AP from 0.001 to below 1, e.g. 0.01 for 1 %; less is within the noise of a measurement",
)
_KINDS = {
    "size": SIZE.or_none(),
    "detections": whole(1, 100),
    "candidates": whole(1, CANDIDATES_MOST),
    "count": whole(1, COUNT_MOST).or_none(),
    "seed": whole(0).or_none(),
    "estimator": TEXT.or_none(),
    "steps": each(TEXT, "names of steps").or_none(),
    "ignored": each(PATTERN, "names or patterns of layers"),
    "max_drop": _DROP.or_none(),
    "max_float_macs": number(0, 1, above=True).or_none(),
    "allow": each(TEXT, "codes of checks"),
    "evaluation": Kind(
        lambda value: isinstance(value, (tuple, list)) and len(value) == 2 and all(map(PATH.fits, value)),
        "a folder of images and its COCO instances JSON",
    ).or_none(),
    "arithmetic": FLAG,
    "annotations": PATH.or_none(),
    "iterations": whole(1).or_none(),
    "learning_rate": number(0, math.inf).or_none(),
    "teacher": PATH.or_none(),
    "macs": number(0, 1, above=True).or_none(),
    "parameters": number(0, 1, above=True).or_none(),
    "latency": number(0, 1, above=True).or_none(),
    "runtime": TEXT.or_none(),
    "protect": each(TEXT, "names or patterns of layers"),
    "prune_iterations": whole(0).or_none(),
    "resume": FLAG,
    "keep_float": FLAG,
    "torch_tensorrt": TEXT.or_none(),
    "license": one_line(),
    "processes": whole(1, 256),
    "ray": TEXT.or_none(),
}


def check_options(recipe: Recipe, options: QuantizeOptions) -> Recipe:
    """See that options are possible and apply to a recipe.

    Returns:
        The recipe with the options in place of its own settings.

    Raises:
        ConfigError: an option has a wrong type, is out of range, or is of no use to the recipe; or a name is unknown.
        CalibrationError: no estimator or refusal of the guard has that name.
        AnnotationError: a file is missing.
    """
    check_all(_KINDS, vars(options))
    choose_executor(options.processes, options.ray)
    chosen = recipe.overridden(options)
    _check_use(chosen, options)
    check_calibration_settings(chosen.calibration, options.allow)
    check_step_names(chosen.steps)
    for pattern in chosen.ignored:
        parse_pattern(pattern)
    if isinstance(chosen, Edge):
        check_pruning(chosen.pruning)
    if options.annotations is not None:
        check_annotations(Path(options.annotations), "an instances JSON")
    return chosen


def open_evaluations(options: QuantizeOptions) -> tuple[Evaluation, ...]:
    """The data to measure accuracy on, read and compared with the images: none, or one.

    Raises:
        AnnotationError: the annotations cannot be read, or do not fit the images.
    """
    if options.evaluation is None:
        return ()
    images, annotations = map(Path, options.evaluation)
    check_images(images)
    check_annotations(annotations, "an instances JSON")
    return (open_evaluation(images, annotations),)


def _check_use(recipe: Recipe, options: QuantizeOptions) -> None:
    if not recipe.trains and (options.trains or (options.annotations is not None and recipe.max_drop is None)):
        advice = "use --recipe qat" if options.trains else "use --recipe qat, or give --max-drop"
        raise ConfigError(f"{_given(options)} is of no use to recipe {recipe.name}, which does not train: {advice}")
    if recipe.max_drop is None and options.max_float_macs is not None:
        raise ConfigError("--max-float-macs limits what --max-drop leaves in float: give --max-drop too, or neither")
    if options.arithmetic and options.evaluation is None:
        raise ConfigError(
            "--arithmetic measures accuracy: give --eval-images and --eval-annotations too, or leave it out"
        )
    if not recipe.prunes and options.prunes:
        raise ConfigError(
            f"a target of pruning, such as --macs, --prune-iterations or --protect, is of no use to recipe "
            f"{recipe.name}, which does not prune: use --recipe edge, or leave it out"
        )
    if isinstance(recipe, Edge) and options.runtime is not None and recipe.pruning.target != LATENCY:
        raise ConfigError(UNTIMED_RUNTIME)
    if recipe.prunes and options.teacher is not None:
        raise ConfigError(
            f"recipe {recipe.name} learns from the checkpoint before pruning: leave --teacher out, or use --recipe qat"
        )
    if recipe.prunes and options.annotations is None:
        raise ConfigError(
            f"recipe {recipe.name} prunes, which needs labels to train on: give --annotations, the COCO instances JSON "
            "of the images in the --calibration folder"
        )


def _given(options: QuantizeOptions) -> str:
    named = {
        "--annotations": options.annotations is not None, "--iterations": options.iterations is not None,
        "--learning-rate": options.learning_rate is not None, "--teacher": options.teacher is not None,
    }  # fmt: skip
    return next((name for name, is_given in named.items() if is_given), "qat")
