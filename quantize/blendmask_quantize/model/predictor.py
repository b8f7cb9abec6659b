"""The float network as a predictor: image in, instances out, as the reference resizes and pastes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blendmask_edge.bundle.tensors import Outputs
from blendmask_edge.errors import ConfigError
from blendmask_edge.imaging import ImageTransform, check_image, fit_size, resize, resized_size
from blendmask_edge.instances import Instances
from blendmask_edge.labels import Labels
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import InputConfig
from blendmask_quantize.model.detect import Detections, detect

Size = tuple[int, int]


class TorchPredictor:
    """Predict with the network in torch.

    Boxes are scaled and clipped, and masks pasted into the clipped boxes, as in detectron2
    `modeling/postprocessing.py`. The reference makes a mask for the whole box, so that of an object that leaves the
    image is squeezed, and its part outside the bases has probability 0.5.

    Args:
        model: the network, in evaluation mode.
        labels: names and category ids of its classes.
        size: height and width of the network input, into which images are fitted as a bundle does; None resizes each
            by the configuration's test sizes, as the reference does.
        clip_before_pooling: whether masks are made for the visible part of the boxes; None does as the configuration
            says.
    """

    def __init__(
        self, model: BlendMask, labels: Labels, size: Size | None = None, clip_before_pooling: bool | None = None
    ) -> None:
        self.model, self.labels, self.size, self.clip_before_pooling = model, labels, size, clip_before_pooling

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Predict the instances in an image.

        Args:
            image: (H, W, 3) uint8 RGB.

        Raises:
            ImageError: the array is not an image.
            ConfigError: a side of `size` is below 1.
        """
        x, transform = network_input(self.model, image, self.size)
        detections = detect(self.model, x, transform.resized, self.clip_before_pooling)
        return Instances.from_outputs(to_outputs(detections), transform, self.labels)


def network_input(
    model: BlendMask, image: NDArray[np.uint8], size: Size | None = None
) -> tuple[Tensor, ImageTransform]:
    """Resize, normalize, and pad an image with 0 to multiples of the input divisor.

    Args:
        model: the network.
        image: (H, W, 3) uint8 RGB.
        size: as for `TorchPredictor`.

    Returns:
        The input (1, 3, H', W'), and the transform of the image to its top left corner.

    Raises:
        ImageError: the array is not an image.
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
    x = torch.nn.functional.pad(x, (0, right - resized[1], 0, bottom - resized[0]))
    return x, ImageTransform((height, width), resized)


def pad_value(config: InputConfig) -> tuple[int, int, int]:
    """Return the pixel mean as RGB gray levels: padding with it is the reference's zero padding after normalization."""
    mean = config.mean if config.channels == "rgb" else config.mean[::-1]
    return round(mean[0]), round(mean[1]), round(mean[2])


def to_outputs(detections: Detections) -> Outputs:
    """Return detections in the form that every runtime returns, a batch of one."""
    rows = detections.candidates
    arrays = (rows.boxes, rows.scores, rows.class_id.to(torch.int32), detections.mask_logits)
    return Outputs(*(array[None].numpy() for array in arrays))
