"""`blendmask prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blendmask_quantize.cli.arguments import CheckpointArgument, ClassesOption, ConfigOption, JsonOption


def prune(
    checkpoint: CheckpointArgument,
    images: Annotated[list[Path], typer.Option(help="Folder of images; can be repeated.", show_default=False)],
    annotations: Annotated[list[Path], typer.Option(help="COCO instances JSON, one per folder.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="P.safetensors", help="Checkpoint to write.", show_default=False)
    ],
    macs: Annotated[float, typer.Option(help="Share of the multiply-accumulates to keep, 0 to 1.")] = 0.7,
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
    """Prune a checkpoint to a share of its multiply-accumulates, and fine-tune it."""
    from blendmask_quantize.api.arguments import check_classes
    from blendmask_quantize.api.prune import check_arguments
    from blendmask_quantize.cli import tables

    if len(images) != len(annotations):
        raise typer.BadParameter(f"{len(images)} folders and {len(annotations)} annotation files: give one per folder")
    check_arguments(checkpoint, images, annotations, output, macs, config, resume=resume)
    check_classes(classes)
    from blendmask_quantize.api.prune import prune as run
    from blendmask_quantize.training.options import TrainOptions

    training = TrainOptions(
        iterations=iterations, batch=batch, learning_rate=learning_rate, precision=precision, workers=workers, seed=seed
    )
    with tables.progress() as progress:
        report = run(
            checkpoint, images, annotations, output, macs, config=config, classes=classes, training=training,
            resume=resume, progress=progress,
        )  # fmt: skip
    tables.show_pruning(report, as_json=as_json)
