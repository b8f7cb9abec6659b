"""COCO run-length encoding of masks that are known inside their boxes only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Tuple

import numpy as np

if TYPE_CHECKING:
    from blendmask_edge.imaging.crops import Crop

Rle = Dict[str, Any]


def encode_crop(crop: Crop, image_size: Tuple[int, int]) -> Rle:
    """Encode a cropped mask as compressed COCO RLE of the image.

    Args:
        crop: (h, w) bool, and the pixel (x0, y0) of its top left corner.
        image_size: height and width of the image in pixels.
    """
    from pycocotools import mask as coco_mask

    height, width = image_size
    counts = _run_lengths(crop, height, height * width)
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def _run_lengths(crop: Crop, height: int, pixels: int) -> List[int]:
    """Return the run lengths of the image in column order, starting with background."""
    mask, (x0, y0) = crop
    # Column by column in one dimension, with a background pixel between columns, so that runs end with them.
    flat = np.zeros((mask.shape[0] + 1) * mask.shape[1] + 1, np.bool_)
    flat[1:].reshape(mask.shape[1], mask.shape[0] + 1)[:, :-1] = mask.T
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), mask.shape[0] + 1)
    edges = (column + x0) * height + row + y0
    joined = np.flatnonzero(edges[1:] == edges[:-1])
    edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    counts: List[int] = np.diff(edges, prepend=0, append=pixels).tolist()
    return counts if counts[-1] or len(counts) == 1 else counts[:-1]
