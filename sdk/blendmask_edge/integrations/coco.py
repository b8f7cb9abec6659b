"""Instances from and to COCO annotations and results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence, Tuple

import msgspec
import numpy as np

from blendmask_edge.errors import InstancesError
from blendmask_edge.evaluation.coco_masks import Mask, compressed, masks_fault
from blendmask_edge.instances import Instances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.labels import Labels


def to_coco(instances: Instances, image_id: int) -> List[Dict[str, Any]]:
    """Return the instances as COCO results; the same as `instances.to_coco(image_id)`."""
    return instances.to_coco(image_id)


def from_coco(annotations: Sequence[Mapping[str, Any]], labels: Labels, image_size: Tuple[int, int]) -> Instances:
    """Return the annotations or results of one image as instances.

    Args:
        annotations: dictionaries with category_id, segmentation (compressed or uncompressed RLE, or polygons), and
            where they have it bbox, score and track_id.
        labels: names and category ids of the classes.
        image_size: height and width of the image in pixels.

    Returns:
        The instances, by descending score; of score 1 where none is given.

    Raises:
        InstancesError: an entry is missing or wrong, a category is unknown, or an RLE is of another size.
    """
    masks = np.zeros((len(annotations), *image_size), np.bool_)
    scores, class_ids = np.ones(len(annotations), np.float32), np.zeros(len(annotations), np.int64)
    boxes, tracks = np.zeros((len(annotations), 4), np.float32), np.full(len(annotations), -1)
    places = {int(category): place for place, category in enumerate(labels.category_ids)}
    for row, annotation in enumerate(annotations):
        try:
            class_ids[row] = places[annotation["category_id"]]
            masks[row] = _decode(annotation["segmentation"], image_size)
            scores[row] = annotation.get("score", 1.0)
            tracks[row] = annotation.get("track_id", -1)
            box = annotation.get("bbox")
            boxes[row] = _box_of(masks[row]) if box is None or len(box) == 0 else box
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InstancesError(f"annotations[{row}] cannot be read: {_reason(error)}.") from error
    boxes[:, 2:] += boxes[:, :2]
    return Instances.from_masks(masks, scores, class_ids, labels, boxes, tracks if (tracks >= 0).any() else None)


def _decode(segmentation: Any, image_size: Tuple[int, int]) -> NDArray[np.bool_]:
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, Mapping) and isinstance(segmentation.get("counts"), bytes):
        segmentation = {**segmentation, "counts": segmentation["counts"].decode("ascii")}
    mask = msgspec.convert(segmentation, Mask)
    fault = masks_fault([mask], [image_size])
    if fault is not None:
        raise ValueError(f"its segmentation {fault[1]}")
    return np.asarray(coco_mask.decode(compressed(msgspec.to_builtins(mask), *image_size)), np.bool_)


def _box_of(mask: NDArray[np.bool_]) -> List[float]:
    """Return x y width height of the pixels."""
    from pycocotools import mask as coco_mask

    box: List[float] = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))).tolist()
    return box


def _reason(error: Exception) -> str:
    return f"{error} is missing or unknown" if isinstance(error, KeyError) else str(error)
