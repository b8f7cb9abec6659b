"""Painted images as a source of training samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.training.augment import Augmentation
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.samples import Sample
from tests.quantize.images import PLAIN, Thing, write_images
from tests.quantize.tiny import LABELS, TINY

CUP, PLATE, FORK = LABELS.category_ids
THINGS = [Thing(PLATE, (8, 8, 40, 32)), Thing(FORK, (30, 20, 80, 60))]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def load(
    folder: Path, images: list[list[Thing]], options: Augmentation = PLAIN, config: ModelConfig = TINY
) -> CocoImages:
    """Paint the images into the folder."""
    return CocoImages.open(folder, write_images(folder, images), config, options)


def only_sample(folder: Path, things: list[Thing], options: Augmentation = PLAIN) -> Sample:
    """The sample of one image."""
    return load(folder, [things], options).sample(0, rng())
