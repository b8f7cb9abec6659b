"""Resize an image as Pillow does, and fit it into the network input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence, Tuple

import numpy as np
from PIL import Image as pillow

from blendmask_edge.imaging.boxes import clip_boxes
from blendmask_edge.imaging.channels import swap_red_and_blue
from blendmask_edge.imaging.io import check_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

Size = Tuple[int, int]


@dataclass(frozen=True)
class ImageTransform:
    """The transform of an image into the network input, where it lies resized in the top left corner.

    image_size: (height, width) of the image.
    resized: (height, width) of the image in the network input.
    """

    image_size: Size
    resized: Size

    @property
    def scale(self) -> Tuple[float, float]:
        """Pixels of the image per pixel of the network input, (x, y)."""
        return self.image_size[1] / self.resized[1], self.image_size[0] / self.resized[0]

    def restore_boxes(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return boxes (N, 4) of the network input, x0 y0 x1 y1, in pixels of the image, clipped to it."""
        return clip_boxes(boxes * np.array([*self.scale, *self.scale], np.float32), self.image_size)


@dataclass(frozen=True)
class PreprocessedImage:
    """An image ready for the network.

    image: uint8 [1, H, W, 3], RGB; the image in its top left corner, the rest the pad value.
    transform: from the image to the network input.
    """

    image: Image
    transform: ImageTransform


def resized_size(height: int, width: int, short: int, long: int) -> Size:
    """Return the size whose short side is `short`, or less where the long side would pass `long`.

    detectron2 data/transforms/augmentation_impl.py, ResizeShortestEdge: scale in floats, add 0.5, truncate.
    """
    scale = short / min(height, width)
    if height < width:
        new_height, new_width = float(short), scale * width
    else:
        new_height, new_width = scale * height, float(short)
    longest = max(new_height, new_width)
    if longest > long:
        new_height, new_width = new_height * (long / longest), new_width * (long / longest)
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))


def fit_size(size: Size, bounds: Size) -> Size:
    """Return the largest size of the same aspect as `size` inside `bounds`, rounded as `resized_size`, at least 1."""
    scale = min(bounds[0] / size[0], bounds[1] / size[1])
    height, width = (min(bound, max(1, int(side * scale + 0.5))) for side, bound in zip(size, bounds))
    return height, width


def resize(image: Image, size: Size) -> Image:
    """Resize an image by Pillow's BILINEAR, antialiased where it shrinks.

    Widths are resized first, as Pillow did up to release 12, with which the reference was trained. Pillow 13 resizes
    heights first where that is cheaper, which differs by at most one gray level, so each side is resized by a call of
    its own.

    Args:
        image: (H, W, 3) uint8.
        size: (height, width) of the result.

    Returns:
        (height, width, 3) uint8; the image itself where it has this size.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    wide = pillow.fromarray(np.ascontiguousarray(image)).resize((size[1], height), pillow.Resampling.BILINEAR)
    return np.array(wide.resize((size[1], size[0]), pillow.Resampling.BILINEAR))


def preprocess(image: Image, bounds: Size, pad_value: Sequence[int], channels: str = "rgb") -> PreprocessedImage:
    """Fit an image into the network input: scale it inside `bounds`, pad at the right and bottom with `pad_value`.

    Padding with the pixel mean, rounded, is the reference's zero padding after normalization.

    Args:
        image: (H, W, 3) uint8 in the order `channels`.
        bounds: (height, width) of the network input.
        pad_value: RGB, 0..255.
        channels: "rgb" or "bgr".

    Raises:
        ImageError: as `check_image`.
    """
    checked = check_image(image, channels)
    transform = ImageTransform(checked.shape[:2], fit_size(checked.shape[:2], bounds))
    height, width = transform.resized
    resized = resize(checked, transform.resized)
    canvas = np.empty((1, bounds[0], bounds[1], 3), np.uint8)
    canvas[0, :height, :width] = resized if channels == "rgb" else swap_red_and_blue(resized)
    canvas[0, height:] = pad_value
    canvas[0, :height, width:] = pad_value
    return PreprocessedImage(canvas, transform)
