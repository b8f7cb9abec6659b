"""`blendmask prune`."""

from __future__ import annotations

from typing import Any

import typer

from blendmask_quantize.cli import prune_options as option
from blendmask_quantize.cli.arguments import (
    AnnotationFilesOption,
    CheckpointArgument,
    ClassesOption,
    ConfigOption,
    ImageFoldersOption,
    JsonOption,
)


def prune(
    checkpoint: CheckpointArgument,
    images: ImageFoldersOption,
    annotations: AnnotationFilesOption,
    output: option.Output,
    macs: option.Macs = None,
    parameters: option.Parameters = None,
    latency: option.Latency = None,
    runtime: option.Runtime = None,
    importance: option.Importance = "taylor",
    multiple: option.Multiple = None,
    protect: option.Protect = None,
    depth: option.Depth = 0.0,
    rounds: option.Rounds = 1,
    distill: option.Distill = False,
    sparsity: option.Sparsity = None,
    config: ConfigOption = None,
    classes: ClassesOption = None,
    iterations: option.Iterations = 1000,
    batch: option.Batch = 8,
    learning_rate: option.LearningRate = 5e-4,
    precision: option.Precision = "auto",
    workers: option.Workers = 2,
    seed: option.Seed = 0,
    resume: option.Resume = False,
    as_json: JsonOption = False,
) -> None:
    """Prune a checkpoint to a share of its multiply-accumulates, parameters or latency, and fine-tune it."""
    from blendmask_quantize.api.prune import prune as run
    from blendmask_quantize.cli import tables
    from blendmask_quantize.pruning.options import UNTIMED_RUNTIME
    from blendmask_quantize.training.options import TrainOptions

    if len(images) != len(annotations):
        raise typer.BadParameter(f"{len(images)} folders and {len(annotations)} annotation files: give one per folder")
    if runtime is not None and latency is None:
        raise typer.BadParameter(UNTIMED_RUNTIME)
    timed: dict[str, Any] = {} if runtime is None else {"runtime": runtime}
    training = TrainOptions(
        iterations=iterations, batch=batch, learning_rate=learning_rate, precision=precision, workers=workers, seed=seed
    )
    with tables.progress() as progress:
        report = run(
            checkpoint, images, annotations, output, macs, parameters=parameters, latency=latency, config=config,
            classes=classes, training=training, resume=resume, progress=progress,
            importance=importance, multiple=multiple, protect=tuple(protect or ()), sparsity=sparsity,
            depth=depth, rounds=rounds, distill=distill, **timed,
        )  # fmt: skip
    tables.show_pruning(report, as_json=as_json)
