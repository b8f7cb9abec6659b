"""What an image's pixels say about how it was read: brightness, contrast, color, value range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blendmask_calibration.images import require_rgb


@dataclass(frozen=True)
class ImageStatistics:
    """Plain statistics of one uint8 image, in gray levels 0 to 255.

    Attributes:
        red, green, blue: mean of each channel, in the order the network would be given.
        deviation: standard deviation over all pixels and channels.
        chroma: mean over pixels of the largest less the smallest channel; 0 for a gray image.
        lowest, highest: the smallest and the largest value of any pixel and channel.
        flatness: share of pixels, 0 to 1, that equal their right-hand neighbor; 0 for an image one pixel wide.
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
        """Mean over all channels."""
        return (self.red + self.green + self.blue) / 3


def image_statistics(rgb: npt.NDArray[np.uint8]) -> ImageStatistics:
    """Measure an image, uint8 (H, W, 3), any size from 1x1. Raises CalibrationError for anything else."""
    require_rgb(rgb)
    red, green, blue = (float(mean) for mean in rgb.mean(axis=(0, 1)))
    chroma = float((rgb.max(axis=2) - rgb.min(axis=2)).mean())
    same = (rgb[:, 1:] == rgb[:, :-1]).all(axis=2)
    flatness = float(same.mean()) if same.size else 0.0
    return ImageStatistics(red, green, blue, float(rgb.std()), chroma, int(rgb.min()), int(rgb.max()), flatness)
