"""Paste mask maps into images, inside their boxes only."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Tuple

import numpy as np

from blendmask_edge.imaging.edges import Edges, edges_of_maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.imaging.crops import Crop

    Floats = NDArray[np.float32]

Size = Tuple[int, int]


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-logits)), float32, exactly 0.5 at 0 and without overflow."""
    values = np.multiply(logits, np.float32(0.5), dtype=np.float32)
    np.tanh(values, out=values)
    values *= np.float32(0.5)
    values += np.float32(0.5)
    return values


def paste(probabilities: Floats, box: Floats, size: Size) -> Crop:
    """Stretch a mask over its box and cut it at 0.5: `paste_all` for one mask, (R, R) float32, and its box, (4,)."""
    return paste_all(probabilities[None], box[None], size)[0]


def paste_all(probabilities: Floats, boxes: Floats, size: Size) -> List[Crop]:
    """Stretch masks over their boxes and cut them at 0.5.

    As detectron2 layers/mask_ops.py does: pixel centers at +0.5, bilinear between cell centers, zero outside the map,
    foreground where the value is at least 0.5. The whole map is squeezed into the part of the box inside the image.
    Only pixels that the box touches are computed; no other can be foreground.

    Args:
        probabilities: (N, R, R) float32, 0..1.
        boxes: (N, 4) x0 y0 x1 y1 in pixels of the image; clipped here.
        size: (height, width) of the image.

    Returns:
        For each mask the (h, w) bool crop and its top left pixel (x0, y0). The crop is (0, 0) for a box without area.
    """
    return _fill(edges_of_maps(probabilities, boxes, size))


def _fill(edges: Edges) -> List[Crop]:
    """Return the masks (h, w) inside their windows; in memory, columns of each lie one after the other."""
    x0, y0, x1, y1 = edges.windows.T
    height = y1 - y0 + 1  # one more, for the edge below a column whose last pixel is foreground
    sizes = (x1 - x0) * height
    starts = np.cumsum(sizes) - sizes
    runs = np.diff(edges.places(starts - x0 * height - y0, height), prepend=0, append=sizes.sum())
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return [
        (columns[start : start + (right - left) * rows].reshape(right - left, rows)[:, :-1].T, (left, top))
        for start, rows, (left, top, right, _) in zip(starts.tolist(), height.tolist(), edges.windows.tolist())
    ]
