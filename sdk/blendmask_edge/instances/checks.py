"""Checks of the arrays of instances, and the message where one does not fit."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence, Tuple

import numpy as np

from blendmask_edge.errors import InstancesError
from blendmask_edge.imaging import MAX_SIDE
from blendmask_edge.labels import Labels, is_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.imaging.crops import Crop


def check_fields(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    image_size: Tuple[int, int],
    labels: Labels,
    mask_logits: NDArray[np.float32],
    track_ids: Optional[NDArray[np.int64]],
    data: Mapping[str, NDArray[Any]],
    mask_crops: Optional[Sequence[Optional[Crop]]],
) -> None:
    """See that the fields of instances have the dtypes, shapes and values that `Instances` documents.

    Raises:
        InstancesError: one has not; the message names it.
    """
    require_array("scores", scores, np.float32, (None,))
    count = len(scores)
    require_array("boxes", boxes, np.float32, (count, 4))
    _require_values(boxes, scores)
    require_array("class_ids", class_ids, np.int64, (count,))
    require_array("mask_logits", mask_logits, np.float32, (count, None, None))
    if track_ids is not None:
        require_array("track_ids", track_ids, np.int64, (count,))
    _require_data(data, count)
    _require_labels(class_ids, labels)
    _require_image_size(image_size)
    if mask_crops is not None:
        _require_crops(mask_crops, count, image_size)


def require_array(name: str, value: object, dtype: type, shape: Tuple[Optional[int], ...]) -> None:
    """Check dtype and shape of an array; None stands for any length."""
    actual = value.shape if isinstance(value, np.ndarray) and value.dtype == dtype else ()
    if len(actual) == len(shape) and all(expected in (None, length) for expected, length in zip(shape, actual)):
        return
    lengths = ", ".join("any" if length is None else str(length) for length in shape)
    raise InstancesError(
        f"{name} is {_describe(value)}, expected {np.dtype(dtype)} of shape ({lengths}{',' * (len(shape) == 1)})."
    )


def _require_values(boxes: NDArray[np.float32], scores: NDArray[np.float32]) -> None:
    """See that boxes are finite and scores lie in 0..1."""
    if not np.isfinite(boxes).all():
        raise InstancesError("boxes hold values that are not finite, expected pixels of the image.")
    outside = scores[~((scores >= 0) & (scores <= 1))]
    if len(outside):
        raise InstancesError(f"scores hold {outside[0]}, expected 0 to 1.")


def _require_labels(class_ids: NDArray[np.int64], labels: object) -> None:
    if not isinstance(labels, Labels):
        raise InstancesError(f"labels is {_describe(labels)}, expected Labels(names, category_ids).")
    if len(class_ids) and not 0 <= class_ids.min() <= class_ids.max() < len(labels.names):
        raise InstancesError(
            f"class_ids are {class_ids.min()}..{class_ids.max()}, expected 0..{len(labels.names) - 1}: "
            f"there are {len(labels.names)} labels."
        )


def _require_data(data: object, count: int) -> None:
    if not isinstance(data, Mapping):
        raise InstancesError(f"data is {_describe(data)}, expected a mapping of names to arrays.")
    for name, values in data.items():
        if not isinstance(name, str):
            raise InstancesError(f"data has the key {name!r}, expected text.")
        if not isinstance(values, np.ndarray) or values.shape[:1] != (count,):
            raise InstancesError(f"data[{name!r}] is {_describe(values)}, expected an array of length {count}.")


def _require_crops(crops: object, count: int, image_size: Tuple[int, int]) -> None:
    if not isinstance(crops, Sequence) or len(crops) != count:
        raise InstancesError(f"mask_crops is {_describe(crops)}, expected a list of {count} pairs (mask, (x0, y0)).")
    height, width = image_size
    for crop in crops:
        if crop is None:
            continue
        try:
            mask, (x, y) = crop
        except (TypeError, ValueError) as error:
            raise InstancesError(f"mask_crops holds {reprlib.repr(crop)}, expected a pair (mask, (x0, y0)).") from error
        require_array("mask_crops", mask, np.bool_, (None, None))
        if not (0 <= x <= width - mask.shape[1] and 0 <= y <= height - mask.shape[0]):
            raise InstancesError(
                f"mask_crops holds a mask of {mask.shape} (height, width) at ({x}, {y}), which does not lie inside the "
                f"image of {tuple(image_size)}."
            )


def _require_image_size(size: Any) -> None:
    is_size = isinstance(size, (tuple, list)) and len(size) == 2
    if not (is_size and all(is_id(side) and 0 < side <= MAX_SIDE for side in size)):
        raise InstancesError(f"image_size is {size!r}, expected (height, width), each 1 or more.")


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"a {type(value).__name__}"
