"""Instances from and to `supervision.Detections`; needs the package supervision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from blendmask_edge.errors import InstancesError
from blendmask_edge.instances import Instances

if TYPE_CHECKING:
    from blendmask_edge.labels import Labels


def to_supervision(instances: Instances) -> Any:
    """Return the instances as `supervision.Detections`; the same as `instances.to_supervision()`."""
    return instances.to_supervision()


def from_supervision(detections: Any, labels: Labels) -> Instances:
    """Return `supervision.Detections` with masks as instances, by descending score.

    Args:
        detections: with `xyxy`, `mask` (N, H, W) and `class_id`; `confidence` is 1 where there is none.
        labels: names and category ids of the classes.

    Raises:
        InstancesError: there are no masks or class ids, or a class id has no label.
    """
    masks, class_ids = _array(detections, "mask"), _array(detections, "class_id")
    if masks is None or class_ids is None:
        raise InstancesError(
            f"The detections have {'no mask' if masks is None else 'no class_id'}. Give a supervision.Detections of "
            "instance segmentation."
        )
    confidence, tracks = _array(detections, "confidence"), _array(detections, "tracker_id")
    return Instances.from_masks(
        np.asarray(masks, np.bool_),
        np.ones(len(masks), np.float32) if confidence is None else np.asarray(confidence, np.float32),
        np.asarray(class_ids, np.int64),
        labels,
        np.asarray(detections.xyxy, np.float32),
        None if tracks is None else np.asarray(tracks, np.int64),
    )


def _array(detections: Any, name: str) -> Optional[Any]:
    return getattr(detections, name, None)
