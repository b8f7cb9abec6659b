"""Colors that tell classes apart, and shades that tell the instances of one class apart."""

from __future__ import annotations

import colorsys
from functools import lru_cache
from typing import Tuple

import numpy as np
from numpy.typing import NDArray

Color = Tuple[int, int, int]

_PALETTE = 128
_LEVELS = np.arange(0, 256, 17)
_LIGHTNESS = (48.0, 88.0)
_LEAST_CHROMA = 38.0
_SHADES = (0.0, 0.3, -0.25, 0.15, -0.13)
_SRGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_D65 = np.array([0.9505, 1.0, 1.089])


def class_color(class_id: int) -> Color:
    """Return the RGB color of a class; the first 128 ids have colors of their own, the lower the farther apart."""
    red, green, blue = _palette()[class_id % _PALETTE].tolist()
    return red, green, blue


def shade(color: Color, number: int) -> Color:
    """Return a lighter or darker shade of an RGB color for the instance `number` of a class; 0 is the color itself."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(value / 255 for value in color))
    change = _SHADES[number % len(_SHADES)]
    lightness += change * ((1 - lightness) if change > 0 else lightness)
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def lab(colors: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Convert (N, 3) uint8 sRGB to (N, 3) CIELAB, in which distances are about as large as they look."""
    linear = colors / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    ratio = linear @ _SRGB_TO_XYZ.T / _D65
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@lru_cache(maxsize=1)
def _palette() -> NDArray[np.uint8]:
    """Choose each color as far from all before it as can be, among those that stand out on a photograph."""
    candidates = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    places = lab(candidates.astype(np.uint8))
    bright = (places[:, 0] > _LIGHTNESS[0]) & (places[:, 0] < _LIGHTNESS[1])
    bright &= np.hypot(places[:, 1], places[:, 2]) > _LEAST_CHROMA
    candidates, places = candidates[bright], places[bright]
    chosen = [int(np.argmax(places[:, 1]))]
    distance = np.linalg.norm(places - places[chosen[0]], axis=1)
    while len(chosen) < _PALETTE:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
    return candidates[chosen].astype(np.uint8)
