"""The stages between an image and its masks: bases, attention and their blend, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_edge.imaging import ImageTransform
from blendmask_edge.instances import Instances
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.blender import weights
from blendmask_quantize.model.detect import Candidates, Detections, attention, find, pooled_bases
from blendmask_quantize.model.predictor import network_input, to_outputs

Floats = NDArray[np.float32]
_BASES_STRIDE = 4


@dataclass(frozen=True, eq=False)
class Stages:
    """An image with N instances on their way through the network (paper section 3).

    Attributes:
        image: (H, W, 3) uint8 RGB.
        bases: (K, h, w) float32, the part that shows the image, without the padding.
        attention: (N, K, R, R) float32, weight of each basis in each location of a mask; they sum to 1 over the bases.
        instances: the N instances with their blended masks, as the network predicts them.
    """

    image: NDArray[np.uint8]
    bases: Floats
    attention: Floats
    instances: Instances

    def best(self, count: int, score_threshold: float) -> Stages:
        """The surest instances, at most `count`, of at least a score."""
        rows = np.flatnonzero(self.instances.scores >= score_threshold)[:count]
        return Stages(self.image, self.bases, self.attention[rows], self.instances[rows])


@torch.no_grad()
def run_stages(checkpoint: Checkpoint, image: NDArray[np.uint8]) -> Stages:
    """Run the float network on an image and keep what it goes through.

    Args:
        checkpoint: from `load_checkpoint`.
        image: (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the array is not an image.
    """
    model, config = checkpoint.model, checkpoint.config
    x, transform = network_input(model, image)
    size = transform.resized
    predictions = model(x)
    selected = find(model, predictions, size if config.inference.clip_before_pooling else None)
    selected = selected[_visible(selected, transform)]
    pooled = pooled_bases(model, predictions, selected)
    vectors = attention(model, predictions, selected).to(pooled.dtype)
    shares = weights(vectors, config.attention_size, *pooled.shape[1:3]).expand_as(pooled)
    detections = Detections(selected, (pooled * shares).sum(dim=1))
    height, width = (-(-side // _BASES_STRIDE) for side in size)
    return Stages(
        image,
        predictions.bases[0, :, :height, :width].numpy(),
        shares.numpy(),
        Instances.from_outputs(to_outputs(detections), transform, checkpoint.labels),
    )


def _visible(selected: Candidates, transform: ImageTransform) -> torch.Tensor:
    """Which boxes show a part of the image; instances are made of no others."""
    boxes = transform.restore_boxes(selected.boxes.numpy())
    return torch.from_numpy((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
