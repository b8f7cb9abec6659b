"""Pixel statistics of an image: brightness, contrast, color, value range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blendmask_calibration.images import require_rgb


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of one uint8 image, in gray levels 0 to 255.

    Attributes:
        red, green, blue: mean of each channel.
        deviation: standard deviation over all pixels and channels.
        chroma: mean difference between the largest and the smallest channel of a pixel; 0 for a gray image.
        lowest, highest: smallest and largest value.
        flatness: share of pixels, 0 to 1, that equal their right neighbor; 0 for an image that is one pixel wide.
    """

    red: float
    green: float
    blue: float
    deviation: float
    chroma: float
    lowest: int
    highest: int
    flatness: float

    @property
    def brightness(self) -> float:
        """Mean of the three channels."""
        return (self.red + self.green + self.blue) / 3


def image_statistics(rgb: npt.NDArray[np.uint8]) -> ImageStatistics:
    """Compute the statistics of an image.

    Args:
        rgb: (H, W, 3) uint8 RGB, any size from 1x1.

    Raises:
        CalibrationError: the array has another dtype or shape.
    """
    require_rgb(rgb)
    red, green, blue = (float(mean) for mean in rgb.mean(axis=(0, 1)))
    chroma = float((rgb.max(axis=2) - rgb.min(axis=2)).mean())
    same = (rgb[:, 1:] == rgb[:, :-1]).all(axis=2)
    flatness = float(same.mean()) if same.size else 0.0
    return ImageStatistics(red, green, blue, float(rgb.std()), chroma, int(rgb.min()), int(rgb.max()), flatness)
