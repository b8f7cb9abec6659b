"""`blendmask train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blendmask_quantize.cli.training_options import (
    BatchOption,
    ClipOption,
    CropOption,
    DevicesOption,
    EmaOption,
    FrozenStagesOption,
    IterationsOption,
    LearningRateOption,
    NodesOption,
    PrecisionOption,
    ResumeOption,
    RunFolderOption,
    SaveEveryOption,
    ScaleOption,
    SeedOption,
    TensorBoardOption,
    WarmupOption,
    WeightDecayOption,
    WorkersOption,
    parse_range,
    parse_size,
)

if TYPE_CHECKING:
    from blendmask_quantize.training.sampling import SamplingOptions


def train(
    images: Annotated[list[Path], typer.Option(help="Folder of images; can be repeated.", show_default=False)],
    annotations: Annotated[list[Path], typer.Option(help="COCO instances JSON, one per folder.", show_default=False)],
    output: RunFolderOption,
    config: Annotated[
        str | None,
        typer.Option(
            help="Name of a configuration, or AdelaiDet YAML file. Default: that of --weights, else LITE0_RT."
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Checkpoint to start from; it may have other classes. Default: ImageNet backbone."),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Checkpoint of a teacher with the same classes, for distillation.")
    ] = None,
    iterations: IterationsOption = 4000,
    batch: BatchOption = 8,
    learning_rate: LearningRateOption = 1e-3,
    backbone_rate: Annotated[
        float, typer.Option(help="Learning rate of the backbone, relative to --learning-rate.", min=0)
    ] = 0.25,
    frozen_stages: FrozenStagesOption = None,
    frozen_norms: Annotated[
        bool, typer.Option("--frozen-norms", help="Freeze the backbone's normalization layers.")
    ] = False,
    crop: CropOption = "320x416",
    scale: ScaleOption = "0.75,1.5",
    paste: Annotated[
        float, typer.Option(help="Copy-paste: share of images that get instances of another image, 0 to 1.")
    ] = 0.3,
    dice: Annotated[float, typer.Option(help="Weight of a Dice loss of the masks; 0 disables it.", min=0)] = 0.0,
    repeat_threshold: Annotated[
        float, typer.Option(help="Repeat-factor sampling: share of images below which a class is repeated.")
    ] = 0.0,
    class_weight: Annotated[
        list[str] | None, typer.Option(help="CLASS=FACTOR: sample a class more often; can be repeated.")
    ] = None,
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty", help="Keep images without annotations as negatives.")
    ] = False,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    schedule: Annotated[
        str, typer.Option(help="cosine, or steps: divide the rate by ten at 78 and 93 % of the run.")
    ] = "cosine",
    weight_decay: WeightDecayOption = 0.02,
    warmup: WarmupOption = None,
    clip: ClipOption = 10.0,
    ema: EmaOption = None,
    precision: PrecisionOption = "auto",
    devices: DevicesOption = 1,
    nodes: NodesOption = 1,
    tensorboard: TensorBoardOption = False,
    save_every: SaveEveryOption = 200,
    workers: WorkersOption = 2,
    seed: SeedOption = 0,
    resume: ResumeOption = False,
) -> None:
    """Train a network on COCO instances, with the classes of the annotations."""
    from blendmask_quantize.api.train import train as run
    from blendmask_quantize.cli import tables
    from blendmask_quantize.training.augment import Augmentation
    from blendmask_quantize.training.loss_options import LossOptions
    from blendmask_quantize.training.options import TrainOptions

    options = TrainOptions(
        iterations=iterations, batch=batch, optimizer=optimizer, learning_rate=learning_rate,
        backbone_rate=backbone_rate, frozen_stages=frozen_stages, frozen_norms=frozen_norms, weight_decay=weight_decay,
        schedule=schedule, warmup=warmup, clip=clip, ema=ema, precision=precision, devices=devices, nodes=nodes,
        tensorboard=tensorboard, save_every=save_every, workers=workers, seed=seed,
        sampling=_sampling(repeat_threshold, class_weight or []),
        augmentation=Augmentation(parse_size(crop), parse_range(scale), paste=paste),
        losses=LossOptions(mask_positives=64, dice_weight=dice),
    )  # fmt: skip
    with tables.progress() as stage:
        path = run(
            images, annotations, output, config=config, weights=weights, teacher=teacher, options=options,
            keep_empty=keep_empty, resume=resume, progress=stage,
        )  # fmt: skip
    tables.show_training(path, f"blendmask evaluate {path} --images DIR --annotations JSON")


def _sampling(threshold: float, class_weights: list[str]) -> SamplingOptions:
    from blendmask_quantize.training.sampling import SamplingOptions

    factors = []
    for text in class_weights:
        name, _, factor = text.rpartition("=")
        if not name or not factor.replace(".", "", 1).isdigit():
            raise typer.BadParameter(f"{text!r}: give a class and a factor, e.g. spoon=3")
        factors.append((name, float(factor)))
    return SamplingOptions(threshold, tuple(factors))
