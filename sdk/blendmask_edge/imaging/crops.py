"""A mask that is known inside its box only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Crop = Tuple["NDArray[np.bool_]", Tuple[int, int]]
"""The mask inside its box, (h, w) bool, and the pixel (x0, y0) of its top left corner."""


def crop_mask(mask: NDArray[np.bool_]) -> Crop:
    """Return the tight crop of a mask (H, W); a crop of (0, 0) at (0, 0) for an empty one."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return np.zeros((0, 0), np.bool_), (0, 0)
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[y0:y1].any(axis=0))
    x0, x1 = int(columns[0]), int(columns[-1]) + 1
    return mask[y0:y1, x0:x1].copy(), (x0, y0)


def box_of(crop: Crop) -> Tuple[float, float, float, float]:
    """Return x0 y0 x1 y1 of a crop, from the edge of its first pixel to that of its last."""
    mask, (x, y) = crop
    return x, y, x + mask.shape[1], y + mask.shape[0]


def intersection(one: Crop, other: Crop) -> int:
    """Return the number of pixels that two masks share."""
    (mask, (x, y)), (other_mask, (other_x, other_y)) = one, other
    left, top = max(x, other_x), max(y, other_y)
    right = min(x + mask.shape[1], other_x + other_mask.shape[1])
    bottom = min(y + mask.shape[0], other_y + other_mask.shape[0])
    if left >= right or top >= bottom:
        return 0
    part = mask[top - y : bottom - y, left - x : right - x]
    return int(np.count_nonzero(part & other_mask[top - other_y : bottom - other_y, left - other_x : right - other_x]))


def union(one: Crop, other: Crop) -> Crop:
    """Return the pixels that either of two masks has."""
    boxes = np.array([box_of(one), box_of(other)], np.int64)
    x, y = boxes[:, :2].min(axis=0).tolist()
    width, height = (boxes[:, 2:].max(axis=0) - [x, y]).tolist()
    joined = np.zeros((height, width), np.bool_)
    for mask, (left, top) in (one, other):
        joined[top - y : top - y + mask.shape[0], left - x : left - x + mask.shape[1]] |= mask
    return joined, (x, y)


def clip_crop(crop: Crop, box: Tuple[int, int, int, int]) -> Crop:
    """Return the part of a crop inside x0 y0 x1 y1."""
    mask, (x, y) = crop
    left, top = max(x, box[0]), max(y, box[1])
    part = mask[top - y : max(top, box[3]) - y, left - x : max(left, box[2]) - x]
    return part, (left, top)
