"""Every threshold of the guard."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """A measured value past `warn` is worth a warning, past `refuse` a refusal; on the limit itself it is neither."""

    warn: float
    refuse: float


@dataclass(frozen=True)
class Limits:
    """Every threshold of the guard. Shares are 0 to 1 of the images; gray levels are 0 to 255.

    The fingerprint distance and the share of bluish images were set on rendered and on photographed scenes: distinct
    scenes differ in 29 bits or more, a one per cent shift or strong recompression in 9 or fewer; of 16 images in the
    right channel order at most 56 % are more blue than red on average (99 of 100 draws). Of 206 such images none
    has more than 57 % of pixels like their neighbor, where label masks have 79 % or more; none spans
    fewer than 171 gray levels.

    Attributes:
        images: least number of readable images.
        unreadable, duplicates, small, blank, unscaled, narrow, bluish, colourless, flat: largest share of such ones.
        gray_among_color: largest share of colourless images where the others have color.
        other_sizes: largest share of images of another size than most.
        swap_errors, swap_gain: where the float model is surer with red and blue swapped: mean gain over its standard
            error, and over its mean without; both must be past the limit. On draws of 16 to 24 images of two kinds a
            trained network refused 0.03 % of those in the right order at most, and 70 % to 93 % of the swapped.
        undetected: largest share of images on which the float model finds nothing.
        duplicate_distance: bits in which the fingerprints of near-duplicates differ at most.
        enlargement: an image is small when it must be enlarged more than this to fill the network's input.
        darkest, brightest: mean brightness of an image that is not almost black or white.
        flattest: standard deviation of an image that is not of one color.
        narrowest: gray levels from the darkest to the brightest value of an image whose value range is right.
        gray: mean chroma below which an image has no color.
        drawn: share of pixels that equal their neighbor above which an image is a mask or a drawing.
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
    colourless: Limit = Limit(warn=0.5, refuse=math.inf)
    gray_among_color: Limit = Limit(warn=0.05, refuse=0.4)
    drawn: float = 0.75
    flat: Limit = Limit(warn=0.0, refuse=0.1)
    other_sizes: Limit = Limit(warn=0.5, refuse=math.inf)
    swap_errors: Limit = Limit(warn=1.0, refuse=1.5)
    swap_gain: Limit = Limit(warn=0.01, refuse=0.02)
    undetected: Limit = Limit(warn=0.5, refuse=0.8)
