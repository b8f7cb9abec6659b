"""Show what changed in an image: the same part of it before and after, with nothing but the changes marked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple

import numpy as np
from pycocotools import mask as rle_codec

from blendmask_edge.comparison.result import APPEARED, MASK, VANISHED, Change
from blendmask_edge.errors import ImageError
from blendmask_edge.imaging import resize
from blendmask_edge.imaging.drawing import Mark, draw_marks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.comparison.detections import Detection

    Image = NDArray[np.uint8]

COLORS = {VANISHED: (235, 87, 71), APPEARED: (64, 140, 240), MASK: (245, 184, 46)}
"""RGB by kind of change."""
_LONG_SIDE = 480
_LEAST_SHARE = 0.4
_MARGIN = 0.35


def draw_changes(image: Image, changes: Sequence[Change]) -> Tuple[Image, Image]:
    """Draw the changes of an image, as they were before and as they are after.

    The part of the image around the changes is shown, 480 pixels on its longer side.

    Args:
        image: (H, W, 3) uint8 RGB.
        changes: of this image, one at least.

    Returns:
        Two images of the same size, before and after.

    Raises:
        ImageError: the masks are of an image of another size.
    """
    size = _detections(changes)[0].rle["size"]
    if tuple(image.shape[:2]) != tuple(size):
        raise ImageError(
            f"The image is {image.shape[1]} x {image.shape[0]} pixels, but was predicted at {size[1]} x {size[0]}. "
            "Give the folder of the images that were predicted."
        )
    x0, y0, x1, y1 = _part(changes, image.shape[1], image.shape[0])
    scale = _LONG_SIDE / max(x1 - x0, y1 - y0)
    shape = (max(1, round((y1 - y0) * scale)), max(1, round((x1 - x0) * scale)))
    shown = resize(np.ascontiguousarray(image[y0:y1, x0:x1]), shape)
    before = [(change.before, change) for change in changes if change.before is not None]
    after = [(change.after, change) for change in changes if change.after is not None]
    first, second = (
        draw_marks(shown, [_mark(detection, change, (x0, y0, x1, y1), shape) for detection, change in side])
        for side in (before, after)
    )
    return first, second


def _detections(changes: Sequence[Change]) -> List[Detection]:
    sides: List[Optional[Detection]] = [side for change in changes for side in (change.before, change.after)]
    return [detection for detection in sides if detection is not None]


def _part(changes: Sequence[Change], width: int, height: int) -> Tuple[int, int, int, int]:
    """Return x0 y0 x1 y1 of the part of the image that shows all changes and what is around them."""
    boxes = np.array([detection.box for detection in _detections(changes)], np.float64)
    low, high = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    whole = np.array([width, height], np.float64)
    sides = np.minimum(np.maximum((high - low) * (1 + 2 * _MARGIN), _LEAST_SHARE * whole), whole)
    start = np.clip((low + high - sides) / 2, 0, whole - sides)
    x0, y0 = np.floor(start).astype(int).tolist()
    x1, y1 = np.ceil(start + sides).astype(int).tolist()
    return x0, y0, min(max(x1, x0 + 1), width), min(max(y1, y0 + 1), height)


def _mark(detection: Detection, change: Change, part: Tuple[int, int, int, int], shape: Tuple[int, int]) -> Mark:
    x0, y0, x1, y1 = part
    mask: Any = rle_codec.decode(detection.rle)[y0:y1, x0:x1]
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape, mask.shape))
    scaled = mask[rows[:, None], columns].astype(np.bool_)
    across, down = shape[1] / (x1 - x0), shape[0] / (y1 - y0)
    x, y, width, height = detection.box
    box = ((x - x0) * across, (y - y0) * down, (x + width - x0) * across, (y + height - y0) * down)
    caption = f"{detection.class_name} {detection.score:.2f}"
    return Mark(scaled, (0, 0), box, 0, caption, COLORS[change.kind])
