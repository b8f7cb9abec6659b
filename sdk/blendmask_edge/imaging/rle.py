"""COCO run-length encoding of masks whose edges are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from blendmask_edge.imaging.edges import Edges, edges_of_crops

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
    return encode_edges(edges_of_crops(crops), image_size)


def encode_edges(edges: Edges, image_size: Tuple[int, int]) -> List[Rle]:
    """Encode masks, given by their edges, as compressed COCO RLE of the image of `image_size`."""
    from pycocotools import mask as coco_mask

    height, width = image_size
    runs = [{"size": [height, width], "counts": counts} for counts in _run_lengths(edges, height, height * width)]
    encoded = coco_mask.frPyObjects(runs, height, width) if runs else []
    return [{"size": [height, width], "counts": rle["counts"].decode("ascii")} for rle in encoded]


def _run_lengths(edges: Edges, height: int, pixels: int) -> Iterator[NDArray[np.uint32]]:
    """Yield the run lengths of the image in column order, starting with background, for each mask."""
    images = np.arange(len(edges.windows) + 1) * (pixels + 1)  # where each mask's image begins
    bounds = np.concatenate([images, images[1:] - 1, edges.places(images, np.full(len(images), height))])
    bounds.sort()
    runs = np.diff(bounds).astype(np.uint32)
    firsts = np.searchsorted(bounds, images).tolist()
    for first, following in zip(firsts, firsts[1:]):
        counts = runs[first : following - 1]
        yield counts if counts[-1] or len(counts) == 1 else counts[:-1]
