"""torchvision's Mask R-CNN with ResNet-50 and FPN, and BlendMask R_50_3x beside it: random weights, the same input.

Both get the least score at which a given number of instances is detected, since the time of a frame depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import maskrcnn_resnet50_fpn

from bench.lib.timed_networks import random_network
from blendmask_edge import Instances, Labels
from blendmask_edge.imaging import ImageTransform
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.detect import candidates, detect, select
from blendmask_quantize.model.predictor import to_outputs

BLENDMASK = "R_50_3x"
CLASSES = 80
_BISECTIONS = 40
Frame = Callable[[], int]
"""Image in, masks of the image's size out; the number of instances."""


def mask_rcnn_frame(image: Tensor, instances: int) -> Frame:
    """A frame of Mask R-CNN at the size of the image, with its default of 1000 proposals.

    Args:
        image: (3, H, W), 0 to 1.
        instances: to detect; fewer where random weights give no threshold for it.
    """
    torch.manual_seed(0)
    short, long = sorted(image.shape[1:])
    network: Any = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=CLASSES + 1, min_size=short, max_size=long,
        box_detections_per_img=instances,
    ).eval()  # fmt: skip
    heads, given = network.roi_heads, _predicted(network, image)

    def passed(threshold: float) -> int:
        heads.score_thresh = threshold
        return len(heads.postprocess_detections(*given)[0][0])

    passed(_threshold_for(instances, passed))
    return lambda: run_mask_rcnn(network, image)


def _predicted(network: Any, image: Tensor) -> tuple[Any, ...]:
    """The proposals that the heads classify."""
    given: list[tuple[Any, ...]] = []
    postprocess = network.roi_heads.postprocess_detections

    def keep(*values: Any) -> Any:
        given.append(values)
        return postprocess(*values)

    network.roi_heads.postprocess_detections = keep
    run_mask_rcnn(network, image)
    network.roi_heads.postprocess_detections = postprocess
    return given[0]


@torch.inference_mode()
def run_mask_rcnn(network: Any, image: Tensor) -> int:
    """Detect, and return the number of instances; masks are pasted by the network."""
    return len(network([image])[0]["masks"])


def blendmask_frame(image: Tensor, instances: int) -> Frame:
    """A frame of BlendMask R_50_3x at the size of the image, in torch, as the reference computes it.

    Args:
        image: (3, H, W), 0 to 1.
        instances: to detect, as near as random weights allow.
    """
    model = random_network(BLENDMASK)
    inference = replace(model.config.inference, detections=instances)
    with torch.inference_mode():
        predictions = model(_normalized(model, image))

    def passed(threshold: float) -> int:
        config = replace(inference, score_threshold=threshold)
        return len(select(candidates(predictions, model.config.head.strides, config), config).scores)

    threshold = _threshold_for(instances, passed)
    model.config = replace(model.config, inference=replace(inference, score_threshold=threshold))
    labels = Labels([str(number) for number in range(CLASSES)], list(range(CLASSES)))
    size = (image.shape[1], image.shape[2])

    @torch.inference_mode()
    def frame() -> int:
        outputs = to_outputs(detect(model, _normalized(model, image)))
        return len(Instances.from_outputs(outputs, ImageTransform(size, size), labels).masks)

    return frame


def _normalized(model: BlendMask, image: Tensor) -> Tensor:
    return model.normalize(255 * image[None])


def _threshold_for(instances: int, passed: Callable[[float], int]) -> float:
    """The highest threshold at which as many instances pass, or all of them."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if passed(middle) >= instances else (low, middle)
    return low
