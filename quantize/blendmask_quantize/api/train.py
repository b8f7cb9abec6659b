"""`train`: from labeled images to a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blendmask_quantize.api.arguments import (
    AnyCheckpoint,
    AnyConfig,
    as_config,
    as_paths,
    as_progress,
    changed,
    check_checkpoint,
    check_config,
    check_folder_output,
    check_pairs,
    open_checkpoint,
)
from blendmask_quantize.api.values import FLAG, as_path, check_all
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.runs.progress import Progress
from blendmask_quantize.runs.run_folder import MODEL_FILE, RunFolder
from blendmask_quantize.training.options import TrainOptions


def train(
    images: PathLike | Iterable[PathLike], annotations: PathLike | Iterable[PathLike], output: PathLike, *,
    config: AnyConfig = None, weights: AnyCheckpoint | None = None, teacher: AnyCheckpoint | None = None,
    options: TrainOptions | None = None, keep_empty: bool = False, resume: bool = False,
    progress: Progress | None = None, **changes: Any,
) -> Path:  # fmt: skip
    """Train a network on COCO instances.

    The classes are those of the annotations, in the order of their category ids. Weights of a checkpoint that was
    trained on other classes are taken as well: rows of the predictor are kept for classes of the same name, the others
    are initialized, which is logged.

    Args:
        images: folder of images, or several.
        annotations: COCO instances JSON, one a folder.
        output: folder of the run.
        config: a configuration, its name, or one of the reference's YAML files; None takes that of the weights, else
            "LITE0_RT".
        weights: checkpoint to start from, or its path; None takes an ImageNet backbone.
        teacher: checkpoint of a trained network with the same classes, strides and mask resolution, or its path; the
            network learns to agree with it as well as with the annotations.
        options: the schedule; None takes the defaults.
        keep_empty: train on images without annotations as well, as negatives; else they are left out, which is logged.
        resume: go on where a run in this folder was interrupted.
        progress: as for `quantize`.
        **changes: fields of `TrainOptions`, in place of those of `options`, e.g. `iterations=8000`.

    Returns:
        The path of the checkpoint.

    Raises:
        AnnotationError: the annotations cannot be read, or do not fit the images.
        CheckpointError: the weights cannot be read, or the folder holds another run.
        ConfigError: an option is out of range.
    """
    folders, files = as_paths("images", images), as_paths("annotations", annotations)
    check_pairs(folders, files)
    for name, checkpoint in (("weights", weights), ("teacher", teacher)):
        if checkpoint is not None:
            check_checkpoint(checkpoint, name)
    check_config(config)
    path, on_stage = as_path("output", output), as_progress(progress)
    check_all({"keep_empty": FLAG, "resume": FLAG}, {"keep_empty": keep_empty, "resume": resume})
    chosen = changed(options, TrainOptions(), changes, "train")
    chosen.check_learns()
    check_folder_output(path)
    run_folder = RunFolder(path, "blendmask train", result=MODEL_FILE)
    run_folder.check_state(resume=resume)
    from blendmask_quantize.training.job import make_job, run_job

    given = Path(weights) if isinstance(weights, (str, os.PathLike)) else weights
    pairs = zip(folders, files, strict=True)
    by = None if teacher is None else open_checkpoint(teacher, None, annotations=files)
    job = make_job(pairs, chosen, as_config(config), given, teacher=by, keep_empty=keep_empty)
    return run_job(job, run_folder, on_stage, resume=resume)
