"""Thresholds of the checks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from blendmask_calibration.errors import require_number


@dataclass(frozen=True)
class Limit:
    """Thresholds of one measured value.

    Attributes:
        warn: a value beyond this gives a warning.
        refuse: a value beyond this gives a refusal.
    """

    warn: float
    refuse: float

    def __post_init__(self) -> None:
        """Validate the thresholds.

        Raises:
            CalibrationError: one is not a number.
        """
        require_number("warn", self.warn)
        require_number("refuse", self.refuse)


@dataclass(frozen=True)
class Limits:
    """Thresholds of all checks. Shares are 0 to 1 of the images; gray levels are 0 to 255.

    `duplicate_distance` and `bluish` were chosen on rendered and photographed scenes. Fingerprints of different scenes
    differ in 29 bits or more; a shift of one percent or strong recompression changes 9 or fewer. In 99 of 100 samples
    of 16 images in the correct channel order, at most 56 % are more blue than red. Among 206 such images, at most 57 %
    of the pixels equal their neighbor (79 % or more in label masks), and all span at least 171 gray levels.

    Attributes:
        images: least number of readable images.
        unreadable, duplicates, small, blank, unscaled, narrow, bluish, colorless, flat: largest share of such images.
        gray_among_color: largest share of images without color if the others have color.
        other_sizes: largest share of images whose size is not the most common one.
        swap_errors, swap_gain: by how much the float model scores images higher with red and blue swapped: mean gain
            in standard errors, and relative to the mean score. A refusal needs both. On samples of 16 to 24 images of
            two kinds, a trained network refused at most 0.03 % of the correct and 70 % to 93 % of the swapped ones.
        undetected: largest share of images without detections of the float model.
        duplicate_distance: fingerprints that differ in at most this many bits are near-duplicates.
        enlargement: images that must be enlarged by more than this factor to fill the network input are small.
        darkest, brightest: images whose mean brightness is outside are almost black or white.
        flattest: images with a lower standard deviation are of one color.
        narrowest: images that span fewer gray levels have a wrong scale.
        gray: images with a lower mean chroma have no color.
        flatness: images with a larger share of pixels that equal their neighbor are label masks or drawings.
    """

    images: Limit = Limit(warn=32, refuse=16)
    unreadable: Limit = Limit(warn=0.0, refuse=0.1)
    duplicate_distance: int = 12
    duplicates: Limit = Limit(warn=0.2, refuse=0.5)
    enlargement: float = 2.0
    small: Limit = Limit(warn=0.1, refuse=0.5)
    darkest: float = 10.0
    brightest: float = 245.0
    flattest: float = 3.0
    blank: Limit = Limit(warn=0.0, refuse=0.25)
    unscaled: Limit = Limit(warn=0.0, refuse=0.1)
    narrowest: int = 100
    narrow: Limit = Limit(warn=0.1, refuse=0.5)
    bluish: Limit = Limit(warn=0.6, refuse=0.9)
    gray: float = 1.0
    colorless: Limit = Limit(warn=0.5, refuse=math.inf)
    gray_among_color: Limit = Limit(warn=0.05, refuse=0.4)
    flatness: float = 0.75
    flat: Limit = Limit(warn=0.0, refuse=0.1)
    other_sizes: Limit = Limit(warn=0.5, refuse=math.inf)
    swap_errors: Limit = Limit(warn=1.0, refuse=1.5)
    swap_gain: Limit = Limit(warn=0.01, refuse=0.02)
    undetected: Limit = Limit(warn=0.5, refuse=0.8)
