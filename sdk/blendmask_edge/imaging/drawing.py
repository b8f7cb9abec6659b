"""Draw masks, outlines and captions into an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from blendmask_edge.imaging.captions import place_captions
from blendmask_edge.imaging.colors import Color, class_color, shade
from blendmask_edge.imaging.io import check_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

_FILL = 0.4
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_REFERENCE_SIDE = 640


@dataclass(frozen=True)
class Mark:
    """One instance of an overlay.

    mask: (h, w) bool, inside the box.
    corner: (x, y) pixel of the mask's top left corner.
    box: x0 y0 x1 y1 in pixels.
    class_id: gives the color.
    caption: text beside the box.
    color: RGB in the place of the color of the class.
    """

    mask: NDArray[np.bool_]
    corner: Tuple[int, int]
    box: Tuple[float, float, float, float]
    class_id: int
    caption: str
    color: Optional[Color] = None


def draw_marks(image: Image, marks: Sequence[Mark]) -> Image:
    """Return a copy of an image with the marks drawn in.

    Each class has a color, each instance of it a shade; the first mark lies on top, and captions cover each other
    nowhere: one that finds no room is left out.

    Args:
        image: (H, W, 3) uint8.
        marks: the most important first; their masks lie inside the image.
    """
    canvas = check_image(image).copy()
    size = max(min(canvas.shape[:2]) / _REFERENCE_SIDE, 0.5)
    colors = _colors(marks)
    for mark, color in reversed(list(zip(marks, colors))):
        _draw_mask(canvas, mark, color, max(1, round(2 * size)))
    _draw_captions(canvas, marks, colors, size)
    return canvas


def _colors(marks: Sequence[Mark]) -> List[Color]:
    seen: Dict[int, int] = {}
    colors = []
    for mark in marks:
        number = seen.get(mark.class_id, 0)
        seen[mark.class_id] = number + 1
        colors.append(shade(class_color(mark.class_id), number) if mark.color is None else mark.color)
    return colors


def _draw_mask(canvas: Image, mark: Mark, color: Color, thickness: int) -> None:
    mask, (x0, y0) = mark.mask, mark.corner
    if not mask.any():
        return
    view = canvas[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
    levels = np.arange(256)[:, None] * (1 - _FILL) + np.array(color) * _FILL
    np.copyto(view, cv2.LUT(view, levels.astype(np.uint8)[None]), where=mask[..., None])
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x0, y0))
    cv2.drawContours(canvas, contours[0], -1, color, thickness, cv2.LINE_AA)


def _draw_captions(canvas: Image, marks: Sequence[Mark], colors: Sequence[Color], size: float) -> None:
    """Draw the lines from captions to boxes first, so that no line crosses a caption."""
    scale = 0.5 * size
    weight, padding = max(1, round(scale * 2)), max(2, round(4 * size))
    texts = [cv2.getTextSize(mark.caption, _FONT, scale, weight) for mark in marks]
    sizes = [(width + 2 * padding, height + base + 2 * padding) for (width, height), base in texts]
    places = place_captions([mark.box for mark in marks], sizes, (canvas.shape[0], canvas.shape[1]))
    labels = [
        (mark, color, (*place, place[0] + width - 1, place[1] + height - 1), place[1] + padding + text[0][1])
        for mark, color, (width, height), text, place in zip(marks, colors, sizes, texts, places)
        if place is not None
    ]
    for mark, color, bar, _ in labels:
        _draw_leader(canvas, mark, bar, color, weight)
    for mark, color, bar, baseline in labels:
        cv2.rectangle(canvas, bar[:2], bar[2:], color, cv2.FILLED)
        cv2.putText(canvas, mark.caption, (bar[0] + padding, baseline), _FONT, scale, _ink(color), weight, cv2.LINE_AA)


def _draw_leader(canvas: Image, mark: Mark, label: Tuple[int, int, int, int], color: Color, weight: int) -> None:
    """Join a caption to its box by a line where they do not touch."""
    x0, y0, x1, y1 = (int(value) for value in mark.box)
    apart = label[0] > x1 + 1 or label[2] < x0 - 1 or label[1] > y1 + 1 or label[3] < y0 - 1
    if apart:
        start = (min(max(x0, label[0]), label[2]), min(max(y0, label[1]), label[3]))
        end = (min(max(start[0], x0), x1), min(max(start[1], y0), y1))
        cv2.line(canvas, start, end, color, weight, cv2.LINE_AA)


def _ink(color: Color) -> Color:
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)
