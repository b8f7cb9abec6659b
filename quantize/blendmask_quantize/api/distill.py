"""`distill`: train a network of another architecture with a trained one as teacher."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blendmask_edge.errors import ConfigError
from blendmask_quantize.api.arguments import (
    AnyCheckpoint,
    as_paths,
    check_backbone,
    check_checkpoint,
    check_config,
    check_folders,
    open_checkpoint,
)
from blendmask_quantize.api.training_run import check_run
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.runs.progress import Progress
from blendmask_quantize.training.options import DISTILLATION, TrainOptions

if TYPE_CHECKING:
    from blendmask_quantize.model.config import ModelConfig


def distill(
    teacher: AnyCheckpoint, images: PathLike | Iterable[PathLike], output: PathLike, config: PathLike | ModelConfig, *,
    options: TrainOptions | None = None, resume: bool = False, progress: Progress | None = None, **changes: Any,
) -> Path:  # fmt: skip
    """Distill a trained network into one of another architecture, on images without labels.

    The student learns the features, class probabilities, boxes and blended masks of the teacher. It gets the teacher's
    classes, and must have the same strides and mask resolution. Train it on annotated images afterwards.

    Args:
        teacher: checkpoint of the trained network, or its path.
        images: folder of images, searched recursively, or a list of folders.
        output: folder of the run.
        config: configuration of the student, its name, or the path of an AdelaiDet YAML file.
        options: schedule and augmentation; None takes 2000 iterations with one learning rate for the whole network.
        resume: continue the interrupted run in this folder.
        progress: callback, as for `quantize`.
        **changes: fields of `TrainOptions`, which override those of `options`.

    Returns:
        Path of the student's checkpoint.

    Raises:
        CheckpointError: the teacher cannot be read, or the folder contains another run.
        CalibrationError: a folder of images is missing or empty.
        ConfigError: the student does not fit the teacher, or an option is out of range.
    """
    folders = as_paths("images", images)
    check_checkpoint(teacher, "teacher")
    check_folders(folders)
    known = check_config(config)
    if known is None:
        raise ConfigError("config is None, expected the configuration of the student")
    run = check_run("distill", output, options, DISTILLATION, changes, resume=resume, progress=progress)
    check_backbone(known)
    from blendmask_quantize.training.job import make_distill_job

    given = Path(config) if isinstance(config, os.PathLike) else config
    return run.train(make_distill_job(folders, run.options, given, open_checkpoint(teacher, None)))
