"""The float network as a predictor: image in, instances out, as the reference resizes and pastes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blendmask_edge.bundle.tensors import Outputs
from blendmask_edge.errors import ConfigError
from blendmask_edge.imaging import check_image, fit_size, resize, resized_size
from blendmask_edge.instances import Instances, Labels
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import InputConfig
from blendmask_quantize.model.detect import Detections, detect

Size = tuple[int, int]


class TorchPredictor:
    """Predict with a checkpoint in torch.

    Args:
        checkpoint: from `load_checkpoint`.
        size: height and width of the network input, into which images are fitted as a bundle does; None resizes each
            by the configuration's test sizes, as the reference does.
        clip_before_pooling: as for `predict`.
    """

    def __init__(
        self, checkpoint: Checkpoint, size: Size | None = None, clip_before_pooling: bool | None = None
    ) -> None:
        self.checkpoint, self.size, self.clip_before_pooling = checkpoint, size, clip_before_pooling

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Instances in an image (H, W, 3) uint8 RGB; see `predict`."""
        model, labels = self.checkpoint.model, self.checkpoint.labels
        return predict(model, image, labels, size=self.size, clip_before_pooling=self.clip_before_pooling)


def predict(
    model: BlendMask, image: NDArray[np.uint8], labels: Labels, *, size: Size | None = None,
    clip_before_pooling: bool | None = None,
) -> Instances:  # fmt: skip
    """Instances in an image.

    Boxes are scaled and clipped, and masks pasted into the clipped boxes, as in detectron2
    `modeling/postprocessing.py`. The reference makes a mask for the whole box, so that of an object that leaves the
    image is squeezed, and its part outside the bases has probability 0.5.

    Args:
        model: the network, in evaluation mode.
        image: (H, W, 3) uint8 RGB.
        labels: what its classes mean.
        size: height and width of the network input, into which the image is fitted as a bundle does. None resizes by
            the configuration's test sizes, as the reference does.
        clip_before_pooling: whether masks are made for the visible part of the boxes; as the configuration says if
            left out.

    Raises:
        ImageError: the array is no image.
        ConfigError: a side of `size` is below 1.
    """
    x, resized = network_input(model, image, size)
    found = detect(model, x, resized, clip_before_pooling)
    height, width = image.shape[:2]
    scale = (width / resized[1], height / resized[0])
    return Instances.from_outputs(to_outputs(found), scale=scale, image_size=(height, width), labels=labels)


def network_input(model: BlendMask, image: NDArray[np.uint8], size: Size | None = None) -> tuple[Tensor, Size]:
    """An image as the network takes it: resized, normalized, then padded with 0 to multiples of the input divisor.

    Args:
        model: the network.
        image: (H, W, 3) uint8 RGB.
        size: as for `predict`.

    Returns:
        The input (1, 3, H', W'), and height and width of the image in its top left.

    Raises:
        ImageError: the array is no image.
        ConfigError: a side of `size` is below 1.
    """
    config, pixels = model.config.input, check_image(image)
    height, width = pixels.shape[:2]
    if size is None:
        resized = padded = resized_size(height, width, config.test_short, config.test_long)
    elif min(size) < 1:
        raise ConfigError(f"the input size is {size[0]}x{size[1]}: give height and width of 1 pixel or more")
    else:
        resized, padded = fit_size((height, width), size), size
    x = model.normalize(torch.from_numpy(resize(pixels, resized)).permute(2, 0, 1)[None])
    bottom, right = (-(-side // config.divisor) * config.divisor for side in padded)
    return torch.nn.functional.pad(x, (0, right - resized[1], 0, bottom - resized[0])), resized


def pad_value(config: InputConfig) -> tuple[int, int, int]:
    """The pixel mean as RGB gray levels: padding with it is the reference's zero padding after normalization."""
    mean = config.mean if config.channels == "rgb" else config.mean[::-1]
    return round(mean[0]), round(mean[1]), round(mean[2])


def to_outputs(found: Detections) -> Outputs:
    """Detections in the form that every runtime returns, a batch of one."""
    kept = found.candidates
    arrays = (kept.boxes, kept.scores, kept.class_id.to(torch.int32), found.mask_logits)
    return Outputs(*(array[None].numpy() for array in arrays))
