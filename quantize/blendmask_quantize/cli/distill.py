"""`blendmask distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def distill(
    teacher: Annotated[Path, typer.Argument(metavar="CKPT", help="Checkpoint of the teacher.", show_default=False)],
    images: Annotated[list[Path], typer.Option(help="Folder of images; can be repeated.", show_default=False)],
    output: RunFolderOption,
    config: Annotated[
        str, typer.Option(help="Configuration of the student: a name, or AdelaiDet YAML file.", show_default=False)
    ],
    iterations: IterationsOption = 2000,
    batch: BatchOption = 8,
    learning_rate: LearningRateOption = 1e-3,
    frozen_stages: FrozenStagesOption = 0,
    crop: CropOption = "320x416",
    scale: ScaleOption = "0.75,1.5",
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
    """Distill a trained network into one of another architecture, on images without labels."""
    from blendmask_quantize.api.distill import distill as run
    from blendmask_quantize.cli import tables
    from blendmask_quantize.training.augment import Augmentation
    from blendmask_quantize.training.options import DISTILLATION

    with tables.progress() as stage:
        path = run(
            teacher, images, output, config, options=DISTILLATION, resume=resume, progress=stage,
            iterations=iterations, batch=batch, learning_rate=learning_rate, frozen_stages=frozen_stages,
            augmentation=Augmentation(parse_size(crop), parse_range(scale), paste=0.0), weight_decay=weight_decay,
            warmup=warmup, clip=clip, ema=ema, precision=precision, devices=devices, nodes=nodes,
            tensorboard=tensorboard, save_every=save_every, workers=workers, seed=seed,
        )  # fmt: skip
    tables.show_training(path, f"blendmask train --weights {path} --images DIR --annotations JSON")
