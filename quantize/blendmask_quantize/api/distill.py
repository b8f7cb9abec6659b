"""`distill`: from a trained network and images to a trained network of another architecture."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blendmask_edge.errors import ConfigError
from blendmask_quantize.api.arguments import (
    AnyCheckpoint,
    as_paths,
    as_progress,
    changed,
    check_checkpoint,
    check_config,
    check_folder_output,
    check_folders,
    open_checkpoint,
)
from blendmask_quantize.api.values import FLAG, as_path
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.runs.progress import Progress
from blendmask_quantize.runs.run_folder import MODEL_FILE, RunFolder
from blendmask_quantize.training.options import DISTILLATION, TrainOptions

if TYPE_CHECKING:
    from blendmask_quantize.model.config import ModelConfig


def distill(
    teacher: AnyCheckpoint, images: PathLike | Iterable[PathLike], output: PathLike, config: PathLike | ModelConfig, *,
    options: TrainOptions | None = None, resume: bool = False, progress: Progress | None = None, **changes: Any,
) -> Path:  # fmt: skip
    """Distill a trained network into a new one of another architecture, from images without labels.

    The student learns the teacher's features, class probabilities, boxes and blended masks. It has the teacher's
    classes, and needs the same strides and mask resolution. Train it on labels afterwards.

    Args:
        teacher: checkpoint of the trained network, or its path.
        images: folder of images, or several; subfolders included.
        output: folder of the run.
        config: of the student: a configuration, its name, or one of the reference's YAML files.
        options: the schedule; None takes 2000 iterations at one learning rate for the whole network.
        resume: go on where a run in this folder was interrupted.
        progress: as for `quantize`.
        **changes: fields of `TrainOptions`, in place of those of `options`, e.g. `iterations=5000`.

    Returns:
        The path of the student's checkpoint.

    Raises:
        CheckpointError: the teacher cannot be read, or the folder holds another run.
        CalibrationError: a folder of images is missing or empty.
        ConfigError: the student cannot learn from the teacher, or an option is out of range.
    """
    folders, path = as_paths("images", images), as_path("output", output)
    check_checkpoint(teacher, "teacher")
    check_folders(folders)
    if check_config(config) is None:
        raise ConfigError("config is None, expected the configuration of the student")
    on_stage = as_progress(progress)
    FLAG.check("resume", resume)
    chosen = changed(options, DISTILLATION, changes, "distill")
    chosen.check_learns()
    check_folder_output(path)
    run_folder = RunFolder(path, "blendmask distill", result=MODEL_FILE)
    run_folder.check_state(resume=resume)
    from blendmask_quantize.training.job import make_distill_job, run_job

    given = Path(config) if isinstance(config, os.PathLike) else config
    job = make_distill_job(folders, chosen, given, open_checkpoint(teacher, None))
    return run_job(job, run_folder, on_stage, resume=resume)
