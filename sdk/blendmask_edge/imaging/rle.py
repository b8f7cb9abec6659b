"""COCO run-length encoding of masks that are known inside their boxes only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.imaging.crops import Crop

Rle = Dict[str, Any]


def encode_crops(crops: Sequence[Crop], image_size: Tuple[int, int]) -> List[Rle]:
    """Encode cropped masks as compressed COCO RLE of the image.

    Args:
        crops: for each mask (h, w) bool, and the pixel (x0, y0) of its top left corner.
        image_size: height and width of the image in pixels.
    """
    from pycocotools import mask as coco_mask

    height, width = image_size
    runs = [{"size": [height, width], "counts": _run_lengths(crop, height, height * width)} for crop in crops]
    encoded = coco_mask.frPyObjects(runs, height, width) if runs else []
    return [{"size": [height, width], "counts": rle["counts"].decode("ascii")} for rle in encoded]


def _run_lengths(crop: Crop, height: int, pixels: int) -> NDArray[np.int64]:
    """Return the run lengths of the image in column order, starting with background."""
    mask, (x0, y0) = crop
    edges = _edges(mask)
    if mask.size:
        row = edges // mask.shape[1]
        edges = (edges - row * mask.shape[1] + x0) * height + row + y0
        edges.sort()
    if len(mask) == height:  # runs go on from the end of a column to the start of the next
        joined = np.flatnonzero(edges[1:] == edges[:-1])
        edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    bounds = np.empty(len(edges) + 2, np.int64)
    bounds[0], bounds[1:-1], bounds[-1] = 0, edges, pixels
    counts = bounds[1:] - bounds[:-1]
    return counts if counts[-1] or len(counts) == 1 else counts[:-1]


def _edges(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return where a pixel differs from the one above it, as indices into h + 1 rows with background around them."""
    if not mask.size:
        return np.zeros(0, np.int64)
    differs = np.empty((len(mask) + 1, mask.shape[1]), np.bool_)
    differs[0], differs[-1] = mask[0], mask[-1]
    np.not_equal(mask[1:], mask[:-1], out=differs[1:-1])
    return np.flatnonzero(differs).astype(np.int64, copy=False)
