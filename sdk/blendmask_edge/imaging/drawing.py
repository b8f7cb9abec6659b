"""Draw instances into a image."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Tuple

import cv2
import numpy as np

from blendmask_edge.errors import ImageError
from blendmask_edge.imaging import check_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.instances import Instances

    Crop = Tuple[NDArray[np.bool_], Tuple[int, int]]
    Image = NDArray[np.uint8]

Color = Tuple[int, int, int]

_FILL = 0.4
_GOLDEN_RATIO = 0.618034
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_REFERENCE_SIDE = 640


def draw_instances(instances: Instances, image: Image) -> Image:
    """Return a copy of `image`, (H, W, 3) uint8, with the instances drawn in, the surest one on top.

    Raises:
        ImageError: `image` is no image or not of the size of the predicted one.
    """
    canvas = check_image(image).copy()
    if canvas.shape[:2] != tuple(instances.image_size):
        raise ImageError(
            f"The image is {canvas.shape[:2]}, the instances were found in one of {tuple(instances.image_size)}; "
            "draw on the same image."
        )
    size = max(min(canvas.shape[:2]) / _REFERENCE_SIDE, 0.5)
    rows = range(len(instances) - 1, -1, -1)
    for row in rows:
        _draw_mask(canvas, instances[row].crops()[0], class_color(int(instances.class_ids[row])), round(2 * size))
    for row in rows:
        text = f"{instances.class_names[row]} {instances.scores[row]:.2f}"
        color = class_color(int(instances.class_ids[row]))
        _draw_label(canvas, text, instances.boxes[row].tolist(), color, 0.5 * size)
    return canvas


def class_color(class_id: int) -> Color:
    """Return a bright RGB color; neighboring ids lie far apart on the color circle."""
    hue = (class_id * _GOLDEN_RATIO) % 1.0
    value = 1.0 if class_id % 2 == 0 else 0.8
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _draw_mask(canvas: Image, crop: Crop, color: Color, thickness: int) -> None:
    mask, (x0, y0) = crop
    if not mask.any():
        return
    view = canvas[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]]
    levels = np.arange(256)[:, None] * (1 - _FILL) + np.array(color) * _FILL
    np.copyto(view, cv2.LUT(view, levels.astype(np.uint8)[None]), where=mask[..., None])
    found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x0, y0))
    cv2.drawContours(canvas, found[0], -1, color, max(1, thickness), cv2.LINE_AA)


def _draw_label(canvas: Image, text: str, box: Tuple[float, float, float, float], color: Color, scale: float) -> None:
    """Write `text` on a filled bar above the box, or inside it where there is no room above."""
    weight = max(1, round(scale * 2))
    (width, height), base = cv2.getTextSize(text, _FONT, scale, weight)
    x = max(0, min(int(box[0]), canvas.shape[1] - width))
    y = int(box[1]) - base if int(box[1]) >= height + 2 * base else int(box[1]) + height + base
    cv2.rectangle(canvas, (x, y - height - base), (x + width, y + base), color, cv2.FILLED)
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    ink = (0, 0, 0) if luminance > 140 else (255, 255, 255)
    cv2.putText(canvas, text, (x, y), _FONT, scale, ink, weight, cv2.LINE_AA)
