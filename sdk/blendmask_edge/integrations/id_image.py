"""Instances from and to an image of ids: one number per pixel, as in panoptic data sets and ROS messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from blendmask_edge.errors import InstancesError
from blendmask_edge.instances import Instances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.labels import Labels

BACKGROUND = 0


def to_id_image(instances: Instances, ids: Optional[NDArray[Any]] = None) -> NDArray[np.uint16]:
    """Return an image of ids; where masks overlap, the instance with the higher score.

    Args:
        instances: N instances.
        ids: (N,) integers from 1 to 65535, such as track ids plus 1; None takes the row plus 1.

    Returns:
        (H, W) uint16; 0 is the background.

    Raises:
        InstancesError: `ids` has another length, or values out of range.
    """
    numbers = np.arange(1, len(instances) + 1) if ids is None else np.asarray(ids)
    if numbers.shape != (len(instances),) or numbers.dtype.kind not in "iu":
        raise InstancesError(f"ids is {numbers.dtype} of shape {numbers.shape}, expected {len(instances)} integers.")
    if len(numbers) and not 1 <= numbers.min() <= numbers.max() <= np.iinfo(np.uint16).max:
        raise InstancesError(f"ids hold {numbers.min()} to {numbers.max()}, expected 1 to {np.iinfo(np.uint16).max}.")
    image = np.full(instances.image_size, BACKGROUND, np.uint16)
    for number, (mask, (x, y)) in reversed(list(zip(numbers, instances.crops()))):
        image[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = number
    return image


def from_id_image(
    image: NDArray[Any],
    class_ids: NDArray[np.int64],
    labels: Labels,
    scores: Optional[NDArray[np.float32]] = None,
) -> Instances:
    """Return the instances of an image of ids.

    Args:
        image: (H, W) integers; 0 is the background, n the instance n of 1 to N.
        class_ids: (N,) int64, class of instance 1 to N.
        labels: names and category ids of the classes.
        scores: (N,) float32; None takes 1.

    Returns:
        The instances, by descending score.

    Raises:
        InstancesError: an id has no class, or an array has another dtype or shape.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 2 or image.dtype.kind not in "iu":
        raise InstancesError("The image of ids is not an array of integers of shape (height, width).")
    count = len(class_ids)
    if image.size and not 0 <= image.min() <= image.max() <= count:
        raise InstancesError(f"The image holds ids {image.min()} to {image.max()}, but there are {count} class ids.")
    masks = image[None] == np.arange(1, count + 1)[:, None, None]
    return Instances.from_masks(masks, np.ones(count, np.float32) if scores is None else scores, class_ids, labels)
