"""Resize an image as Pillow does, and fit it into the network input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, List, Sequence, Tuple

import cv2
import numpy as np

from blendmask_edge.imaging.io import check_image
from blendmask_edge.imaging.products import multiply

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Floats = NDArray[np.float32]

Size = Tuple[int, int]

_BLOCK = 8
_BLOCK_SOURCES = 64


@dataclass(frozen=True)
class PreprocessedImage:
    """A image ready for the network.

    image: uint8 [1, H, W, 3], RGB; the image in its top left `size`, the rest the pad value.
    size: (height, width) of the resized image inside `image`.
    scale_x, scale_y: pixels of the image per pixel of the network input.
    """

    image: Image
    size: Size
    scale_x: float
    scale_y: float


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
    """Resize a (H, W, 3) uint8 image to `size`, bilinear, antialiased where it shrinks: Pillow's BILINEAR.

    Equal to Pillow within one gray level: Pillow also rounds between its two passes. Enlarging has no antialiasing, and
    OpenCV does it five times as fast. Where a side shrinks, the weights are banded; one small product per few output
    rows or columns costs less than a dense product and less than a gather per tap.
    """
    if image.shape[:2] == size:
        return image
    height, width = size
    if height >= image.shape[0] and width >= image.shape[1]:
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    rows = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    middle = np.empty((height, rows.shape[1]), np.float32)
    for band in _bands(image.shape[0], height, 1):
        multiply(band.weights.T, rows[band.source].astype(np.float32), middle[band.target])
    result = np.empty((height, width * 3), np.float32)
    for band in _bands(image.shape[1], width, 3):
        multiply(middle[:, band.source], band.weights, result[:, band.target])
    return np.asarray(cv2.convertScaleAbs(result), np.uint8).reshape(height, width, 3)


def preprocess(image: Image, bounds: Size, pad_value: Sequence[int], channels: str = "rgb") -> PreprocessedImage:
    """Fit a image into the network input: scale it inside `bounds`, pad at the right and bottom with `pad_value`.

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
    height, width = fit_size(checked.shape[:2], bounds)
    resized = resize(checked, (height, width))
    canvas = np.empty((1, bounds[0], bounds[1], 3), np.uint8)
    canvas[0, :height, :width] = resized if channels == "rgb" else cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)
    canvas[0, height:] = pad_value
    canvas[0, :height, width:] = pad_value
    return PreprocessedImage(canvas, (height, width), checked.shape[1] / width, checked.shape[0] / height)


@dataclass(frozen=True)
class _Band:
    """Weights (sources, targets) of a few neighboring output samples over the input samples that they touch."""

    source: slice
    target: slice
    weights: Floats


@lru_cache(maxsize=64)
def _bands(source: int, target: int, channels: int) -> List[_Band]:
    """Return the weights that resize one axis, interleaved over `channels`, a few targets to a band.

    Fewer when it shrinks much, which bounds the rows that are held as floats at a time.
    """
    scale = source / target
    support = max(scale, 1.0)
    block = min(_BLOCK, max(1, int(_BLOCK_SOURCES / scale)))
    bands = []
    for start in range(0, target, block):
        stop = min(start + block, target)
        centers = (np.arange(start, stop) + 0.5) * scale
        low, high = max(0, int(centers[0] - support + 0.5)), min(source, int(centers[-1] + support + 0.5))
        distance = np.abs(np.arange(low, high)[:, None] + 0.5 - centers[None, :])
        triangle = np.maximum(0.0, 1.0 - distance / support)
        weights = np.kron(triangle / triangle.sum(axis=0), np.eye(channels)).astype(np.float32)
        wide = slice(low * channels, high * channels), slice(start * channels, stop * channels)
        bands.append(_Band(*wide, weights))
    return bands
