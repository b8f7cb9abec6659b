"""Paste mask maps into images, inside their boxes only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Tuple

import numpy as np

from blendmask_edge.imaging.products import multiply

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Size = Tuple[int, int]

_PASTE_ROWS = 64


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-logits)), float32, exactly 0.5 at 0 and without overflow."""
    return np.asarray(np.float32(0.5) * np.tanh(np.float32(0.5) * logits) + np.float32(0.5), np.float32)


def clip_boxes(boxes: Floats, size: Size) -> Floats:
    """Clip (N, 4) boxes x0 y0 x1 y1 to an image of `size`."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))


def paste(probabilities: Floats, box: Floats, size: Size) -> Tuple[NDArray[np.bool_], Tuple[int, int]]:
    """Stretch a mask over its box and cut it at 0.5.

    As detectron2 layers/mask_ops.py does: pixel centers at +0.5, bilinear between cell centers, zero outside the map,
    foreground where the value is at least 0.5. The whole map is squeezed into the part of the box inside the image.
    Only pixels that the box touches are computed; no other can be foreground.

    Args:
        probabilities: (R, R) float32, 0..1.
        box: (4,) x0 y0 x1 y1 in pixels of the image; clipped here.
        size: (height, width) of the image.

    Returns:
        The (h, w) bool crop and its top left pixel (x0, y0). The crop is (0, 0) for a box without area.
    """
    x0, y0, x1, y1 = clip_boxes(box, size).tolist()
    if not (x0 < x1 and y0 < y1):
        return np.zeros((0, 0), np.bool_), (0, 0)
    columns = _paste_weights(x0, x1, probabilities.shape[1])
    rows = _paste_weights(y0, y1, probabilities.shape[0])
    across = np.empty((len(probabilities), len(columns)), np.float32)
    multiply(probabilities, columns.T, across)
    crop = np.empty((len(rows), len(columns)), np.bool_)
    values = np.empty((min(_PASTE_ROWS, len(rows)), len(columns)), np.float32)
    for start in range(0, len(rows), _PASTE_ROWS):
        part = rows[start : start + _PASTE_ROWS]
        multiply(part, across, values[: len(part)])
        np.greater_equal(values[: len(part)], np.float32(0.5), out=crop[start : start + len(part)])
    return crop, (math.floor(x0), math.floor(y0))


def _paste_weights(low: float, high: float, cells: int) -> Floats:
    """Return (pixels, cells) bilinear weights of a map stretched from `low` to `high`, zero outside the map."""
    first, last = math.floor(low), math.ceil(high)
    position = np.clip((np.arange(first, last) + 0.5 - low) / (high - low) * cells - 0.5, -2, cells + 1)
    cell = np.floor(position).astype(np.int64)
    fraction = (position - cell).astype(np.float32)
    weights = np.zeros((last - first, cells + 5), np.float32)
    index = np.arange(last - first)
    weights[index, cell + 2] = 1 - fraction
    weights[index, cell + 3] = fraction
    return weights[:, 2 : cells + 2]
