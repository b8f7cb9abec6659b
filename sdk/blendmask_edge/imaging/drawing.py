"""Draw masks, outlines and captions into an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

import numpy as np

from blendmask_edge.imaging.captions import place_captions
from blendmask_edge.imaging.colors import Color, class_color, shade
from blendmask_edge.imaging.io import check_image
from blendmask_edge.imaging.text import rendered_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

_FILL = 0.4
_FONT_SIZE, _LEAST_FONT_SIZE = 16, 11
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
    """Tint a mask, and draw its edge, holes included, as a line of the color inside it."""
    mask, (x0, y0) = mark.mask, mark.corner
    view = canvas[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
    edge = mask & ~_eroded(mask, thickness)
    levels = (np.arange(256)[:, None] * (1 - _FILL) + np.array(color) * _FILL).astype(np.uint8)
    for channel, level in enumerate(levels.T):
        values = view[..., channel]
        np.copyto(values, level[values], where=mask)
        np.copyto(values, np.uint8(color[channel]), where=edge)


def _eroded(mask: NDArray[np.bool_], times: int) -> NDArray[np.bool_]:
    """Return the pixels that are farther than `times` from the outside, by steps to the four neighbors."""
    inner = np.pad(mask, times)
    for _ in range(times):
        smaller = inner.copy()
        smaller[1:] &= inner[:-1]
        smaller[:-1] &= inner[1:]
        smaller[:, 1:] &= inner[:, :-1]
        smaller[:, :-1] &= inner[:, 1:]
        inner = smaller
    return inner[times:-times, times:-times]


def _draw_captions(canvas: Image, marks: Sequence[Mark], colors: Sequence[Color], size: float) -> None:
    """Draw the lines from captions to boxes first, so that no line crosses a caption."""
    weight, padding = max(1, round(size)), max(2, round(4 * size))
    texts = [rendered_text(mark.caption, max(_LEAST_FONT_SIZE, round(_FONT_SIZE * size))) for mark in marks]
    sizes = [(text.shape[1] + 2 * padding, text.shape[0] + 2 * padding) for text in texts]
    places = place_captions([mark.box for mark in marks], sizes, (canvas.shape[0], canvas.shape[1]))
    labels = [
        (mark, color, (*place, place[0] + width - 1, place[1] + height - 1), text)
        for mark, color, (width, height), text, place in zip(marks, colors, sizes, texts, places)
        if place is not None
    ]
    for mark, color, bar, _ in labels:
        _draw_leader(canvas, mark, bar, color, weight)
    for _, color, (x0, y0, _, _), text in labels:
        cover = np.pad(text, padding)[..., None] / 255
        patch = (1 - cover) * np.array(color) + cover * np.array(_ink(color))
        _put(canvas, patch.round().astype(np.uint8), (x0, y0))


def _draw_leader(canvas: Image, mark: Mark, label: Tuple[int, int, int, int], color: Color, weight: int) -> None:
    """Join a caption to its box by a line where they do not touch."""
    x0, y0, x1, y1 = (int(value) for value in mark.box)
    apart = label[0] > x1 + 1 or label[2] < x0 - 1 or label[1] > y1 + 1 or label[3] < y0 - 1
    if apart:
        start = (min(max(x0, label[0]), label[2]), min(max(y0, label[1]), label[3]))
        end = (min(max(start[0], x0), x1), min(max(start[1], y0), y1))
        _draw_line(canvas, start, end, color, weight)


def _draw_line(canvas: Image, start: Tuple[int, int], end: Tuple[int, int], color: Color, weight: int) -> None:
    count = max(abs(end[0] - start[0]), abs(end[1] - start[1])) + 1
    xs, ys = (np.linspace(low, high, count).round().astype(np.int64) for low, high in zip(start, end))
    for right in range(weight):
        for down in range(weight):
            x, y = xs + right, ys + down
            inside = (x >= 0) & (y >= 0) & (x < canvas.shape[1]) & (y < canvas.shape[0])
            canvas[y[inside], x[inside]] = color


def _put(canvas: Image, patch: Image, corner: Tuple[int, int]) -> None:
    """Copy the part of a patch that lies inside the canvas."""
    x, y = max(corner[0], 0), max(corner[1], 0)
    view = canvas[y : max(y, corner[1] + patch.shape[0]), x : max(x, corner[0] + patch.shape[1])]
    view[:] = patch[y - corner[1] :, x - corner[0] :][: view.shape[0], : view.shape[1]]


def _ink(color: Color) -> Color:
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)
