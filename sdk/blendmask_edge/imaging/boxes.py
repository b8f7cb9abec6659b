"""Boxes in images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def clip_boxes(boxes: NDArray[np.float32], size: Tuple[int, int]) -> NDArray[np.float32]:
    """Clip (N, 4) boxes x0 y0 x1 y1 to an image of `size`."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
