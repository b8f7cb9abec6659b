"""Find the like of each detection of an image among those of another run."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Sequence, Tuple

import numpy as np
from pycocotools import mask as rle_codec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.comparison.detections import Detection

MATCH_IOU = 0.5
"""Least IoU of the boxes of one instance in two runs."""


def match(before: Sequence[Detection], after: Sequence[Detection]) -> List[Tuple[int, int]]:
    """Return pairs of places of detections of the same class whose boxes overlap by `MATCH_IOU` or more.

    The best overlap goes first and each detection is in one pair at most. Boxes decide, so that a mask that moved
    inside its box is the same instance with another mask.
    """
    overlaps = _box_overlaps(before, after)
    rows, columns = np.nonzero(overlaps >= MATCH_IOU)
    order = np.argsort(-overlaps[rows, columns], kind="stable")
    pairs: List[Tuple[int, int]] = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist()):
        if all(row != one and column != other for one, other in pairs):
            pairs.append((row, column))
    return sorted(pairs)


def mask_overlap(one: Detection, other: Detection) -> float:
    """Return the IoU of two masks of one image, 0 to 1; 1 if both are empty."""
    if not (rle_codec.area(one.rle) or rle_codec.area(other.rle)):
        return 1.0
    return float(rle_codec.iou([one.rle], [other.rle], [0])[0, 0])


def _box_overlaps(before: Sequence[Detection], after: Sequence[Detection]) -> NDArray[np.float64]:
    """IoU (N, M) of the boxes, 1 for equal ones even without area, 0 between classes."""
    if not (before and after):
        return np.zeros((len(before), len(after)))
    boxes = [np.array([detection.box for detection in side], np.float64) for side in (before, after)]
    overlaps = np.asarray(rle_codec.iou(*boxes, [0] * len(after)), np.float64)
    overlaps[(boxes[0][:, None] == boxes[1]).all(axis=2)] = 1
    names = [np.array([detection.class_name for detection in side]) for side in (before, after)]
    overlaps[names[0][:, None] != names[1]] = 0
    return overlaps
