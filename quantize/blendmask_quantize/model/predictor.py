"""The float network as a predictor: picture in, instances out, as the reference resizes and pastes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_edge.bundle.graph import Outputs
from blendmask_edge.imaging import check_image, resize, resized_size
from blendmask_edge.instances import Instances
from blendmask_quantize.model.checkpoint import Checkpoint
from blendmask_quantize.model.config import InputConfig
from blendmask_quantize.model.detect import Detections, detect


class TorchPredictor:
    """Predict with a checkpoint in torch.

    Args:
        checkpoint: from `load_checkpoint`.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Objects in a picture (H, W, 3) uint8 RGB.

        The picture is resized by the configuration's test sizes and padded to the input divisor; boxes are clipped and
        masks pasted as in detectron2 `modeling/postprocessing.py`.

        Raises:
            ImageError: the array is no picture.
        """
        model, config = self.checkpoint.model, self.checkpoint.config.input
        picture = check_image(image)
        height, width = picture.shape[:2]
        size = resized_size(height, width, config.test_short, config.test_long)
        x = model.normalise(torch.from_numpy(resize(picture, size)).permute(2, 0, 1)[None])
        x = torch.nn.functional.pad(x, (0, -size[1] % config.divisor, 0, -size[0] % config.divisor))
        return Instances.from_outputs(
            _outputs(detect(model, x)),
            scale=(width / size[1], height / size[0]),
            image_size=(height, width),
            labels=self.checkpoint.labels,
        )


def pad_value(config: InputConfig) -> tuple[int, int, int]:
    """The pixel mean as RGB grey levels: padding with it is the reference's zero padding after normalisation."""
    mean = config.mean if config.channels == "rgb" else config.mean[::-1]
    return round(mean[0]), round(mean[1]), round(mean[2])


def _outputs(found: Detections) -> Outputs:
    kept = found.candidates
    arrays = (kept.boxes, kept.scores, kept.class_id.to(torch.int32), found.mask_logits)
    return Outputs(*(array[None].numpy() for array in arrays))
