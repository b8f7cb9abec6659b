"""`blendmask train`: the options of a training run, from the command line to `TrainOptions`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from blendmask_quantize.training.options import TrainOptions
    from blendmask_quantize.training.sampling import SamplingOptions

_Number = TypeVar("_Number", int, float)


def train(
    images: Annotated[list[Path], typer.Option(help="Folder of the images; repeat for more.", show_default=False)],
    annotations: Annotated[list[Path], typer.Option(help="COCO instances JSON, one a folder.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.", show_default=False)],
    config: Annotated[
        str | None, typer.Option(help="Configuration, or AdelaiDet YAML; that of --weights if left out, else LITE0_RT.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from, of any classes; ImageNet backbone if left out.")
    ] = None,
    iterations: Annotated[int, typer.Option(min=1)] = 4000,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    learning_rate: Annotated[float, typer.Option(min=0)] = 1e-3,
    backbone_rate: Annotated[float, typer.Option(help="The backbone's learning rate over that.", min=0)] = 0.25,
    frozen_stages: Annotated[
        int | None, typer.Option(help="Stages of the backbone that stay as they are.", min=0)
    ] = None,
    frozen_norms: Annotated[bool, typer.Option("--frozen-norms", help="Keep the backbone's normalizations.")] = False,
    crop: Annotated[str, typer.Option(help="Height x width of an augmented image, multiples of 32.")] = "320x416",
    scale: Annotated[str, typer.Option(help="Range of the enlargement; 1 is the test size.")] = "0.75,1.5",
    paste: Annotated[float, typer.Option(help="Probability of pasting instances of another image.")] = 0.3,
    dice: Annotated[float, typer.Option(help="Weight of an overlap loss of the masks.", min=0)] = 0.0,
    repeat_threshold: Annotated[float, typer.Option(help="Share of images below which a class is rare.")] = 0.0,
    class_weight: Annotated[
        list[str] | None, typer.Option(help="CLASS=FACTOR, sampled more often; repeat for more.")
    ] = None,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    schedule: Annotated[str, typer.Option(help="cosine, or steps: a tenth at 78 and 93 % of the run.")] = "cosine",
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.02,
    warmup: Annotated[int, typer.Option(help="Steps.", min=0)] = 200,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient; 0 does not clip.", min=0)] = 10.0,
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights; 0 keeps the last ones.")] = 0.998,
    precision: Annotated[str, typer.Option(help="auto, 32-true, bf16-mixed or 16-mixed.")] = "auto",
    devices: Annotated[int, typer.Option(help="Processes on each node, one a device.", min=1)] = 1,
    nodes: Annotated[int, typer.Option(help="Machines.", min=1)] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write for TensorBoard as well.")] = False,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints to resume from.", min=1)] = 200,
    workers: Annotated[int, typer.Option(help="Processes that load and augment images.", min=0)] = 2,
    seed: Annotated[int, typer.Option()] = 0,
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty", help="Train on images without annotations as well, as negatives.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the folder's run stopped.")] = False,
) -> None:
    """Train a network on COCO instances."""
    from blendmask_quantize.training.augment import Augmentation
    from blendmask_quantize.training.losses import LossOptions
    from blendmask_quantize.training.options import TrainOptions

    if len(images) != len(annotations):
        raise typer.BadParameter(f"{len(images)} folders and {len(annotations)} annotation files: give one each")
    options = TrainOptions(
        iterations=iterations, batch=batch, optimizer=optimizer, learning_rate=learning_rate,
        backbone_rate=backbone_rate, frozen_stages=frozen_stages, frozen_norms=frozen_norms, weight_decay=weight_decay,
        schedule=schedule, warmup=warmup, clip=clip, ema=ema, precision=precision, devices=devices, nodes=nodes,
        tensorboard=tensorboard, save_every=save_every, workers=workers, seed=seed,
        sampling=_sampling(repeat_threshold, class_weight or []),
        augmentation=Augmentation(parse_pair(crop, "x", int), parse_pair(scale, ",", float), paste=paste),
        losses=LossOptions(mask_positives=64, dice_weight=dice),
    )  # fmt: skip
    _run(images, annotations, output, config, weights, options, keep_empty=keep_empty, resume=resume)


def _run(
    images: list[Path], annotations: list[Path], output: Path, config: str | None, weights: Path | None,
    options: TrainOptions, *, keep_empty: bool, resume: bool,
) -> None:  # fmt: skip
    from blendmask_quantize.api.train import train as run
    from blendmask_quantize.cli import tables
    from blendmask_quantize.training.processes import first_process

    with tables.progress() as stage:
        path = run(
            images, annotations, output, config=config, weights=weights, options=options, keep_empty=keep_empty,
            resume=resume, progress=stage,
        )  # fmt: skip
    if first_process():
        typer.echo(f"The model lies in {path}; the losses and their curves in {output}")
        typer.echo(f"Next: blendmask evaluate {path} --images DIR --annotations JSON")


def parse_pair(text: str, separator: str, number: type[_Number]) -> tuple[_Number, _Number]:
    """Two numbers of an option's text."""
    try:
        first, second = (number(part) for part in text.lower().split(separator))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: give two numbers, as in 3{separator}4") from error
    return first, second


def _sampling(threshold: float, class_weights: list[str]) -> SamplingOptions:
    from blendmask_quantize.training.sampling import SamplingOptions

    factors = []
    for text in class_weights:
        name, _, factor = text.rpartition("=")
        if not name or not factor.replace(".", "", 1).isdigit():
            raise typer.BadParameter(f"{text!r}: give a class and a factor, as in spoon=3")
        factors.append((name, float(factor)))
    return SamplingOptions(threshold, tuple(factors))
