"""Scenes of rectangles in pure red, green or blue, and a network that sees each of them exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Sequence, Tuple

import cv2
import numpy as np
import pytest

from blendmask_edge.bundle import Outputs
from blendmask_edge.runtimes.shared import SharedSession

CELLS = 56


@dataclass(frozen=True)
class Rectangle:
    """x0 y0 x1 y1 in pixels, and the class: 0 red, 1 green, 2 blue."""

    box: Tuple[int, int, int, int]
    class_id: int = 0


def paint(rectangles: Sequence[Rectangle], size: Tuple[int, int]) -> np.ndarray:
    """Return an RGB image of `size` (height, width)."""
    image = np.zeros((*size, 3), np.uint8)
    for rectangle in rectangles:
        x0, y0, x1, y1 = rectangle.box
        image[y0:y1, x0:x1] = 0
        image[y0:y1, x0:x1, rectangle.class_id] = 255
    return image


def see(_: Any, image: np.ndarray, is_typical: bool = False) -> Outputs:
    """Return each connected region of one color as an instance; the larger, the surer."""
    del is_typical
    boxes: List[Any] = []
    for class_id in range(3):
        regions = cv2.connectedComponentsWithStats((image[0, ..., class_id] > 127).astype(np.uint8), connectivity=4)
        boxes += [(x, y, x + w, y + h, class_id, 0.5 + area / 1e6) for x, y, w, h, area in regions[2][1:].tolist()]
    rows = np.array(boxes, np.float32).reshape(-1, 6)
    # Rows beyond the edge: a mask that is 1 up to the edge of its box.
    logits = np.full((1, len(rows), CELLS, CELLS), 8, np.float32)
    return Outputs(rows[None, :, :4], rows[None, :, 5], rows[None, :, 4].astype(np.int32), logits)


@pytest.fixture
def rectangle_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `see` in the place of every network."""
    monkeypatch.setattr(SharedSession, "run", see)
