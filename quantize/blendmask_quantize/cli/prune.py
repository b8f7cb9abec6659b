"""`blendmask prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="P.safetensors", help="Checkpoint to write.", show_default=False)
    ],
    macs: Annotated[
        float | None, typer.Option(help="Share of the multiply-accumulates to keep, 0 to 1. Default: 0.7.")
    ] = None,
    parameters: Annotated[float | None, typer.Option(help="Share of the parameters to keep, instead.")] = None,
    latency: Annotated[
        float | None, typer.Option(help="Share of the INT8 graph's time on this machine to keep, instead.")
    ] = None,
    runtime: Annotated[str, typer.Option(help="--latency: runtime to time, onnxruntime or openvino.")] = "onnxruntime",
    importance: Annotated[str, typer.Option(help="How channels are chosen: taylor, magnitude or bn_scale.")] = "taylor",
    multiple: Annotated[
        int | None,
        typer.Option(help="Channels come in multiples of this. Default: 8; for --latency, the fastest here.", min=1),
    ] = None,
    protect: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="Layer that is not pruned: name, glob, or re:PATTERN; can be repeated."),
    ] = None,
    depth: Annotated[
        float, typer.Option(help="Drop residual blocks while the loss rises by this share at most, e.g. 0.02.", min=0)
    ] = 0.0,
    rounds: Annotated[
        int, typer.Option(help="Rounds of pruning, each with its share of the fine-tuning steps.", min=1)
    ] = 1,
    distill: Annotated[
        bool, typer.Option("--distill", help="Fine-tune with the network before pruning as teacher, too.")
    ] = False,
    sparsity: Annotated[
        str | None, typer.Option(help="2:4 sets two of each four weights to zero, for GPUs from Ampere on.")
    ] = None,
    config: ConfigOption = None,
    classes: ClassesOption = None,
    iterations: Annotated[int, typer.Option(help="Fine-tuning steps; 0 skips fine-tuning.", min=0)] = 1000,
    batch: Annotated[int, typer.Option(help="Augmented images per step.", min=1)] = 8,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.", min=0)] = 5e-4,
    precision: Annotated[str, typer.Option(help="bf16-mixed or 32-true.")] = "bf16-mixed",
    workers: Annotated[int, typer.Option(help="Processes that load and augment images.", min=0)] = 2,
    seed: Annotated[int, typer.Option(help="Seed of augmentation and sampling.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run with this output.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Prune a checkpoint to a share of its multiply-accumulates, parameters or latency, and fine-tune it."""
    from blendmask_quantize.api.prune import prune as run
    from blendmask_quantize.cli import tables
    from blendmask_quantize.training.options import TrainOptions

    if len(images) != len(annotations):
        raise typer.BadParameter(f"{len(images)} folders and {len(annotations)} annotation files: give one per folder")
    training = TrainOptions(
        iterations=iterations, batch=batch, learning_rate=learning_rate, precision=precision, workers=workers, seed=seed
    )
    with tables.progress() as progress:
        report = run(
            checkpoint, images, annotations, output, macs, parameters=parameters, latency=latency, config=config,
            classes=classes, training=training, resume=resume, progress=progress, runtime=runtime,
            importance=importance, multiple=multiple, protect=tuple(protect or ()), sparsity=sparsity,
            depth=depth,
            rounds=rounds, distill=distill,
        )  # fmt: skip
    tables.show_pruning(report, as_json=as_json)
