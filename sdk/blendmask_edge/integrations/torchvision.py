"""Instances from and to the dictionaries of torchvision's detectors; needs PyTorch.

A dictionary has `boxes` (N, 4) float32, `labels` (N,) int64 with 0 for the background, so that they are class ids plus
1, `scores` (N,) float32, and `masks`: (N, 1, H, W) float32 from 0 to 1 of a Mask R-CNN, or (N, H, W) of a data set.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from blendmask_edge.arguments.values import check_number
from blendmask_edge.errors import DependencyError, InstancesError
from blendmask_edge.instances import Instances

if TYPE_CHECKING:
    from blendmask_edge.labels import Labels


def to_torchvision(instances: Instances) -> Any:
    """Return the instances as a dictionary of tensors: boxes, labels, scores, and masks of 0 and 1.

    Raises:
        DependencyError: PyTorch is not installed.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise DependencyError(f"to_torchvision needs torch ({error}). Type: pip install torch") from error
    return {
        "boxes": torch.from_numpy(instances.boxes.copy()),
        "labels": torch.from_numpy(instances.class_ids + 1),
        "scores": torch.from_numpy(instances.scores.copy()),
        "masks": torch.from_numpy(instances.masks[:, None].astype(np.float32)),
    }


def from_torchvision(prediction: Mapping[str, Any], labels: Labels, mask_threshold: float = 0.5) -> Instances:
    """Return the output of a torchvision detector for one image, or a target of it, as instances.

    Args:
        prediction: dictionary with boxes, labels and masks; `scores` are 1 where there are none.
        labels: names and category ids of the classes; label 1 is the first.
        mask_threshold: least value of a pixel that belongs to the mask.

    Returns:
        The instances, by descending score.

    Raises:
        InstancesError: an entry is missing, or a label is none of `labels`.
        ConfigError: `mask_threshold` is not a number from 0 to 1.
    """
    check_number("mask_threshold", mask_threshold, 0, 1)
    missing = [name for name in ("boxes", "labels", "masks") if name not in prediction]
    if missing:
        raise InstancesError(
            f"The dictionary has no {missing[0]}; it has {sorted(prediction)}. Give the output of a Mask R-CNN for one "
            "image, or a target with masks."
        )
    masks = _numpy(prediction["masks"])
    if masks.ndim == 4:
        masks = masks[:, 0]
    is_set = masks if masks.dtype == np.bool_ else masks >= (mask_threshold if masks.dtype.kind == "f" else 1)
    scores = _numpy(prediction["scores"]) if "scores" in prediction else np.ones(len(masks))
    return Instances.from_masks(
        is_set,
        np.asarray(scores, np.float32),
        np.asarray(_numpy(prediction["labels"]), np.int64) - 1,
        labels,
        np.asarray(_numpy(prediction["boxes"]), np.float32),
    )


def _numpy(value: Any) -> Any:
    """Return a tensor of any device as an array."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
