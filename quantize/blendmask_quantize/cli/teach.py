"""`blendmask teach`: the options of a run in which a trained network teaches another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blendmask_quantize.cli.train import parse_pair

if TYPE_CHECKING:
    from blendmask_quantize.training.options import TrainOptions


def teach(
    teacher: Annotated[Path, typer.Argument(metavar="CKPT", help="The trained network.", show_default=False)],
    images: Annotated[list[Path], typer.Option(help="Folder of images; repeat for more.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.", show_default=False)],
    config: Annotated[str, typer.Option(help="Configuration of the student, or AdelaiDet YAML.", show_default=False)],
    iterations: Annotated[int, typer.Option(min=1)] = 2000,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    frozen_stages: Annotated[int, typer.Option(help="Stages of the backbone that stay as they are.", min=0)] = 0,
    crop: Annotated[str, typer.Option(help="Height x width of an augmented image, multiples of 32.")] = "320x416",
    scale: Annotated[str, typer.Option(help="Range of the enlargement; 1 is the test size.")] = "0.75,1.5",
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.02,
    warmup: Annotated[int, typer.Option(help="Steps.", min=0)] = 200,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient; 0 does not clip.", min=0)] = 10.0,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights; 0 keeps the last ones.")] = 0.998,
    precision: Annotated[str, typer.Option(help="auto, 32-true, bf16-mixed or 16-mixed.")] = "auto",
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints to resume from.", min=1)] = 200,
    workers: Annotated[int, typer.Option(help="Processes that load and augment images.", min=0)] = 2,
    seed: Annotated[int, typer.Option()] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the folder's run stopped.")] = False,
) -> None:
    """Let a trained network teach one of another architecture, from images without labels."""
    from blendmask_quantize.training.augment import Augmentation
    from blendmask_quantize.training.options import TrainOptions

    options = TrainOptions(
        iterations=iterations, batch=batch, learning_rate=learning_rate, backbone_rate=1.0, frozen_stages=frozen_stages,
        weight_decay=weight_decay, warmup=warmup, clip=clip, ema=ema, precision=precision, workers=workers,
        save_every=save_every, seed=seed,
        augmentation=Augmentation(parse_pair(crop, "x", int), parse_pair(scale, ",", float), paste=0.0),
    )  # fmt: skip
    _run(teacher, images, output, config, options, resume=resume)


def _run(
    path: Path, folders: list[Path], output: Path, config: str, options: TrainOptions, *, resume: bool
) -> None:  # fmt: skip
    from dataclasses import replace

    from blendmask_quantize.checkpoints.adelaidet_yaml import find_config
    from blendmask_quantize.checkpoints.checkpoint import load_checkpoint
    from blendmask_quantize.cli import tables
    from blendmask_quantize.training.processes import first_process
    from blendmask_quantize.training.start import new_network
    from blendmask_quantize.training.stream import AugmentedStream
    from blendmask_quantize.training.teach import TeachOptions, check_teacher, unlabeled
    from blendmask_quantize.training.teach import teach as run

    teacher = load_checkpoint(path)
    wanted = replace(find_config(config), num_classes=teacher.config.num_classes)
    check_teacher(wanted, teacher)
    student = new_network(wanted, options.seed)
    stream = AugmentedStream(
        unlabeled(folders, teacher, wanted, options.augmentation), options.augmented_images, options.seed
    )
    with tables.progress() as stage:
        on_step = stage("teaching", options.iterations)
        model = run(
            student, teacher, stream, output, TeachOptions(options), resume=resume, on_step=lambda *_: on_step()
        )
    if first_process():
        typer.echo(f"The model lies in {model}; the losses and their curves in {output}")
        typer.echo(f"Next: blendmask train --config {wanted.name} --weights {model} --images DIR --annotations JSON")
