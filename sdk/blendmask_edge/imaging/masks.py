"""Paste mask maps into images, inside their boxes only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Size = Tuple[int, int]

_BORDER = 2, 3
"""Zeros before and behind a map: cells outside of it that pixels at the edges of a box sample."""
_PASTE_ROWS = 64
"""Rows at a time, which stay in the processor's cache."""


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
    columns, right = _taps(x0, x1, probabilities.shape[1])
    rows, lower = _taps(y0, y1, probabilities.shape[0])
    padded = np.zeros((len(probabilities) + sum(_BORDER), probabilities.shape[1] + sum(_BORDER)), np.float32)
    padded[_BORDER[0] : -_BORDER[1], _BORDER[0] : -_BORDER[1]] = probabilities
    across = _blended(padded, columns, right, 1)
    crop = np.empty((len(rows), len(columns)), np.bool_)
    for start in range(0, len(rows), _PASTE_ROWS):
        part = slice(start, start + _PASTE_ROWS)
        np.greater_equal(_blended(across, rows[part], lower[part, None], 0), np.float32(0.5), out=crop[part])
    return crop, (math.floor(x0), math.floor(y0))


def _taps(low: float, high: float, cells: int) -> Tuple[NDArray[np.intp], Floats]:
    """Return where each pixel samples a map stretched from `low` to `high`.

    Returns:
        The first of two neighboring cells of the map with its border, and the weight of the second.
    """
    pixels = np.arange(math.floor(low), math.ceil(high)) + 0.5
    position = np.clip((pixels - low) / (high - low) * cells - 0.5, -2, cells + 1)
    cell = np.floor(position)
    return cell.astype(np.intp) + _BORDER[0], (position - cell).astype(np.float32)


def _blended(values: Floats, cells: NDArray[np.intp], weights: Floats, axis: int) -> Floats:
    """Return each cell and its neighbor along an axis, blended."""
    first, second = (np.take(values, cells + step, axis, mode="clip") for step in (0, 1))
    first *= 1 - weights
    second *= weights
    first += second
    return first
