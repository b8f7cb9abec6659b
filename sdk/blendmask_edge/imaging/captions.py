"""Place the captions of an overlay so that none covers another."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

Size = Tuple[int, int]
Point = Tuple[int, int]


def place_captions(boxes: Sequence[Sequence[float]], sizes: Sequence[Size], image_size: Size) -> List[Optional[Point]]:
    """Return the top left pixel (x, y) of each caption, None for those that find no room.

    A caption goes above its box, inside its top or below it, else as near to that as it covers no earlier one.

    Args:
        boxes: x0 y0 x1 y1 of each instance, the most important first.
        sizes: (width, height) of each caption.
        image_size: (height, width).
    """
    taken = np.zeros((0, 4), np.int64)
    places: List[Optional[Point]] = []
    for box, (width, height) in zip(boxes, sizes):
        place = _first_free(_candidates(box, width, height, image_size), (width, height), taken)
        places.append(place)
        if place is not None:
            row = [place[0], place[1], place[0] + width, place[1] + height]
            taken = np.concatenate([taken, np.array([row], np.int64)])
    return places


def _candidates(box: Sequence[float], width: int, height: int, image_size: Size) -> NDArray[np.int64]:
    """Return (M, 2) top left pixels inside the image, the best first."""
    right, bottom = image_size[1] - width, image_size[0] - height
    if right < 0 or bottom < 0:
        return np.zeros((1, 2), np.int64)
    x0, y0, _, y1 = (int(value) for value in box)
    own = [(x0, y0 - height), (x0, y0), (x0, y1)]
    xs = np.unique(np.append(np.arange(0, right + 1, max(1, width // 3)), [right, min(max(x0, 0), right)]))
    ys = np.unique(np.append(np.arange(0, bottom + 1, max(1, height // 2)), bottom))
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    distance = np.abs(grid - np.array([x0, y0 - height])).max(axis=1)
    places = np.concatenate([np.array(own), grid[np.argsort(distance, kind="stable")]])
    places[:3, 0] = np.clip(places[:3, 0], 0, right)
    return places[(places[:, 1] >= 0) & (places[:, 1] <= bottom)]


def _first_free(places: NDArray[np.int64], size: Size, taken: NDArray[np.int64]) -> Optional[Point]:
    ends = places + np.array(size)
    across = (places[:, None, 0] < taken[None, :, 2]) & (ends[:, None, 0] > taken[None, :, 0])
    down = (places[:, None, 1] < taken[None, :, 3]) & (ends[:, None, 1] > taken[None, :, 1])
    free = np.flatnonzero(~(across & down).any(axis=1))
    return (int(places[free[0], 0]), int(places[free[0], 1])) if len(free) else None
