"""Outlines of masks with their holes, simplified, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Sequence, Tuple

import numpy as np

from blendmask_edge.imaging.opencv import load_opencv

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.imaging.crops import Crop

    Ring = NDArray[np.int32]


_PURPOSE = "Conversion from and to polygons"


@dataclass(frozen=True, eq=False)
class Polygon:
    """One connected part of a mask.

    Attributes:
        exterior: (K, 2) int32, x y of the pixels at its edge, clockwise on the screen.
        holes: (K, 2) int32 each, the pixels of the mask around a hole.
    """

    exterior: Ring
    holes: Tuple[Ring, ...] = ()


def outline(crop: Crop, tolerance: float) -> List[Polygon]:
    """Return the polygons of a mask, in pixels of the image.

    Args:
        crop: (h, w) bool, and the pixel of its top left corner.
        tolerance: farthest distance of a pixel of the edge from its polygon; 0 keeps every corner.

    Raises:
        DependencyError: OpenCV is not installed.
    """
    mask, corner = crop
    if not mask.any():
        return []
    cv2 = load_opencv(_PURPOSE)
    contours, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=corner)
    rings = [np.asarray(cv2.approxPolyDP(ring, tolerance, True), np.int32).reshape(-1, 2) for ring in contours]
    parents = np.asarray(hierarchy)[0, :, 3].tolist()
    return [
        Polygon(ring, tuple(rings[child] for child, parent in enumerate(parents) if parent == number))
        for number, ring in enumerate(rings)
        if parents[number] < 0
    ]


def fill(polygons: Sequence[Polygon], image_size: Tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask (H, W) of polygons; their edges belong to it."""
    cv2 = load_opencv(_PURPOSE)
    mask = np.zeros(image_size, np.uint8)
    for polygon in polygons:
        part = np.zeros(image_size, np.uint8)
        cv2.fillPoly(part, [polygon.exterior], 1)
        for hole in polygon.holes:
            cv2.fillPoly(part, [hole], 0)
            cv2.polylines(part, [hole], True, 1)
        mask |= part
    return mask.astype(np.bool_)
