"""`train`: train a network on labeled images."""

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
    check_backbone,
    check_checkpoint,
    check_config,
    check_pairs,
    open_checkpoint,
)
from blendmask_quantize.api.training_run import check_run
from blendmask_quantize.api.values import FLAG
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.runs.progress import Progress
from blendmask_quantize.training.options import TrainOptions


def train(
    images: PathLike | Iterable[PathLike], annotations: PathLike | Iterable[PathLike], output: PathLike, *,
    config: AnyConfig = None, weights: AnyCheckpoint | None = None, teacher: AnyCheckpoint | None = None,
    options: TrainOptions | None = None, keep_empty: bool = False, resume: bool = False,
    progress: Progress | None = None, **changes: Any,
) -> Path:  # fmt: skip
    """Train a network on COCO instances.

    The classes are those of the annotations, sorted by category id. `weights` may have other classes: the predictor
    keeps the rows of classes with the same name and initializes the others, which is logged.

    Args:
        images: folder of images, or a list of folders.
        annotations: COCO instances JSON, or one per folder.
        output: folder of the run.
        config: a configuration, its name, or the path of an AdelaiDet YAML file; None takes that of `weights`, or
            "LITE0_RT".
        weights: checkpoint to start from, or its path; None starts from an ImageNet backbone.
        teacher: checkpoint of a trained network with the same classes, strides and mask resolution, or its path. The
            network is trained to agree with the teacher as well as with the annotations.
        options: schedule, augmentation and losses; None takes the defaults.
        keep_empty: whether to train on images without annotations, as negatives. By default they are skipped, which is
            logged.
        resume: continue the interrupted run in this folder.
        progress: callback, as for `quantize`.
        **changes: fields of `TrainOptions`, which override those of `options`.

    Returns:
        Path of the trained checkpoint, `model.safetensors` in `output`.

    Raises:
        AnnotationError: the annotations cannot be read or do not match the images.
        CheckpointError: the weights cannot be read, or the folder contains another run.
        ConfigError: an option is out of range.

    Example:
        >>> from blendmask_quantize import train
        >>> train("scenes", "scenes.json", "run", weights="checkpoint.safetensors", iterations=2, batch=2).name
        'model.safetensors'
    """
    folders, files = as_paths("images", images), as_paths("annotations", annotations)
    check_pairs(folders, files)
    for name, checkpoint in (("weights", weights), ("teacher", teacher)):
        if checkpoint is not None:
            check_checkpoint(checkpoint, name)
    known = check_config(config)
    FLAG.check("keep_empty", keep_empty)
    run = check_run("train", output, options, TrainOptions(), changes, resume=resume, progress=progress)
    if weights is None:
        check_backbone(known, ", or start from a checkpoint with --weights")
    from blendmask_quantize.training.job import make_job

    given = Path(weights) if isinstance(weights, (str, os.PathLike)) else weights
    pairs = zip(folders, files, strict=True)
    by = None if teacher is None else open_checkpoint(teacher, None, annotations=files)
    return run.train(make_job(pairs, run.options, as_config(config), given, teacher=by, keep_empty=keep_empty))
