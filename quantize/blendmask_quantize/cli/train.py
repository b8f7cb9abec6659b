"""`blendmask train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from blendmask_quantize.cli import training_options as option
from blendmask_quantize.cli.arguments import AnnotationFilesOption, ImageFoldersOption

if TYPE_CHECKING:
    from blendmask_quantize.training.sampling import SamplingOptions


def train(
    images: ImageFoldersOption,
    annotations: AnnotationFilesOption,
    output: option.RunFolder,
    config: option.Config = None,
    weights: option.Weights = None,
    teacher: option.Teacher = None,
    iterations: option.Iterations = 4000,
    batch: option.Batch = 8,
    learning_rate: option.LearningRate = 1e-3,
    backbone_rate: option.BackboneRate = 0.25,
    frozen_stages: option.FrozenStages = None,
    frozen_norms: option.FrozenNorms = False,
    crop: option.Crop = "320x416",
    scale: option.Scale = "0.75,1.5",
    paste: option.Paste = 0.3,
    dice: option.Dice = 0.0,
    repeat_threshold: option.RepeatThreshold = 0.0,
    class_weight: option.ClassWeight = None,
    keep_empty: option.KeepEmpty = False,
    optimizer: option.Optimizer = "adamw",
    schedule: option.Schedule = "cosine",
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
        augmentation=Augmentation(option.parse_size(crop), option.parse_range(scale), paste=paste),
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
        if not name or not factor.isascii() or not factor.replace(".", "", 1).isdigit():
            raise typer.BadParameter(f"{text!r}: give a class and a factor, e.g. spoon=3")
        factors.append((name, float(factor)))
    return SamplingOptions(threshold, tuple(factors))
