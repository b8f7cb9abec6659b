"""Samples that the network is trained on: one augmented image with its targets, and a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blendmask_quantize.training.copy_paste import Scene
from blendmask_quantize.training.targets import mask_targets

SMALLEST_INSTANCE = 20
"""Visible pixels below which an instance of an augmented image is not a target."""


@dataclass(frozen=True)
class Sample:
    """One augmented image.

    Attributes:
        pixels: (3, h, w) uint8 RGB.
        boxes: (n, 4) float32, x0 y0 x1 y1 of the visible masks.
        classes: (n,) int64, contiguous.
        mask_targets: (n, R, R) bool, each mask inside its box.
        semantic: (h, w) int64, 0 for nothing, contiguous class + 1.
    """

    pixels: Tensor
    boxes: Tensor
    classes: Tensor
    mask_targets: Tensor
    semantic: Tensor


@dataclass(frozen=True)
class Batch:
    """Samples stacked; the instances of all images one after the other.

    Attributes:
        pixels: (N, 3, H, W) uint8 RGB.
        boxes, classes, mask_targets: one tensor an image, as in `Sample`.
        semantic: (N, H, W) int64.
    """

    pixels: Tensor
    boxes: tuple[Tensor, ...]
    classes: tuple[Tensor, ...]
    mask_targets: tuple[Tensor, ...]
    semantic: Tensor

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to a device."""
        instances = (self.boxes, self.classes, self.mask_targets)
        boxes, classes, masks = (tuple(tensor.to(device) for tensor in part) for part in instances)
        return Batch(self.pixels.to(device), boxes, classes, masks, self.semantic.to(device))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size."""
    return Batch(
        torch.stack([sample.pixels for sample in samples]),
        tuple(sample.boxes for sample in samples),
        tuple(sample.classes for sample in samples),
        tuple(sample.mask_targets for sample in samples),
        torch.stack([sample.semantic for sample in samples]),
    )


def make_sample(scene: Scene, resolution: int) -> Sample:
    """Turn an augmented image and its masks into tensors.

    Args:
        scene: the image; ignored and hardly visible instances count for the semantic map only.
        resolution: R, side of a mask target.
    """
    pixels, masks = scene.image.pixels, scene.image.masks
    semantic = np.zeros(pixels.shape[:2], np.int64)
    for mask, class_id in zip(masks, scene.classes, strict=True):
        semantic[mask] = class_id + 1
    visible = ~scene.ignored & (masks.sum(axis=(1, 2)) >= SMALLEST_INSTANCE)
    masks = masks[visible]
    boxes = torch.from_numpy(mask_boxes(masks))
    return Sample(
        torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
        boxes,
        torch.from_numpy(scene.classes[visible]),
        mask_targets(torch.from_numpy(masks), boxes, resolution),
        torch.from_numpy(semantic),
    )


def mask_boxes(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return tight boxes (n, 4), x0 y0 x1 y1, of non-empty masks (n, h, w)."""
    columns, rows = (np.asarray(masks.any(axis=axis)) for axis in (1, 2))
    first_x, first_y = columns.argmax(axis=1), rows.argmax(axis=1)
    last_x = masks.shape[2] - columns[:, ::-1].argmax(axis=1)
    last_y = masks.shape[1] - rows[:, ::-1].argmax(axis=1)
    return np.stack([first_x, first_y, last_x, last_y], axis=1).astype(np.float32)
