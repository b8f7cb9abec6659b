"""`blendmask distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blendmask_quantize.cli import training_options as option
from blendmask_quantize.cli.arguments import ImageFoldersOption


def distill(
    teacher: Annotated[Path, typer.Argument(metavar="CKPT", help="Checkpoint of the teacher.", show_default=False)],
    images: ImageFoldersOption,
    output: option.RunFolder,
    config: option.StudentConfig,
    iterations: option.Iterations = 2000,
    batch: option.Batch = 8,
    learning_rate: option.LearningRate = 1e-3,
    frozen_stages: option.FrozenStages = 0,
    crop: option.Crop = "320x416",
    scale: option.Scale = "0.75,1.5",
    weight_decay: option.WeightDecay = 0.02,
    warmup: option.Warmup = None,
    clip: option.Clip = 10.0,
    ema: option.Ema = None,
    precision: option.Precision = "auto",
    devices: option.Devices = 1,
    nodes: option.Nodes = 1,
    tensorboard: option.TensorBoard = False,
    save_every: option.SaveEvery = 200,
    workers: option.Workers = 2,
    seed: option.Seed = 0,
    resume: option.Resume = False,
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
            augmentation=Augmentation(option.parse_size(crop), option.parse_range(scale), paste=0.0),
            weight_decay=weight_decay, warmup=warmup, clip=clip, ema=ema, precision=precision, devices=devices,
            nodes=nodes, tensorboard=tensorboard, save_every=save_every, workers=workers, seed=seed,
        )  # fmt: skip
    tables.show_training(path, f"blendmask train --weights {path} --images DIR --annotations JSON")
