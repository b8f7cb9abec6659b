"""Bilinear resampling, equal to Pillow's to the last bit.

Pillow (libImaging/Resample.c) resamples 8-bit images in integers: coefficients of 22 bits, horizontally first, rounded
to 8 bits after each pass. Here each pass is a few banded products of float32, for which a coefficient is split into two
numbers of 11 bits: then every product and sum is a whole number below 2^24, which float32 holds exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, List, Tuple

import cv2
import numpy as np

from blendmask_edge.imaging.products import multiply

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

_BITS = 22
_HALF_BITS = 11
_BLOCK = 4
_BLOCK_SOURCES = 64
_STRIP_BYTES = 2**22
_MOST_TAPS = 32
"""Taps for which 255 x 2^11 x taps stays below 2^24; more of them are summed in float64."""


def resample_rows(image: Image, height: int) -> Image:
    """Resample (H, W, 3) uint8 to `height` rows."""
    if image.shape[0] == height:
        return image
    rows = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    return _resample(rows, height).reshape(height, *image.shape[1:])


def resample_columns(image: Image, width: int) -> Image:
    """Resample (H, W, 3) uint8 to `width` columns, a strip of rows at a time."""
    height, source = image.shape[:2]
    if source == width:
        return image
    result = np.empty((height, width, 3), np.uint8)
    strip = max(1, _STRIP_BYTES // (3 * max(source, width)))
    for top in range(0, height, strip):
        columns = np.asarray(cv2.transpose(np.ascontiguousarray(image[top : top + strip])), np.uint8)
        turned = _resample(columns.reshape(source, -1), width).reshape(width, -1, 3)
        result[top : top + strip] = cv2.transpose(turned)
    return result


@dataclass(frozen=True)
class _Band:
    """Coefficients of a few neighboring targets over the sources that they touch.

    weights: (2 T, S) float32, first the upper 11 bits, then the lower 11 bits times 2^-11; with more than `_MOST_TAPS`
        taps (T, S) float64, times 2^-22.
    """

    source: slice
    target: slice
    weights: NDArray[Any]


def _resample(rows: Image, target: int) -> Image:
    """Resample (S, N) to (target, N)."""
    result = np.empty((target, rows.shape[1]), np.uint8)
    for band in _bands(len(rows), target):
        weights = band.weights
        values = np.empty((len(weights), rows.shape[1]), weights.dtype)
        multiply(weights, rows[band.source].astype(weights.dtype), values)
        _round(values, result[band.target])
    return result


def _round(values: NDArray[Any], out: Image) -> None:
    """Write sums of a band to `out`, rounded, halves up."""
    if len(values) == len(out):
        out[:] = np.floor(values + 0.5)
        return
    upper, lower = values[: len(out)], values[len(out) :]
    upper += np.floor(lower, out=lower)
    cv2.convertScaleAbs(upper, dst=out, alpha=2.0**-_HALF_BITS, beta=2.0 ** -(_HALF_BITS + 2))


def _coefficients(source: int, target: int) -> Tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first source and the coefficients of each target, in the order of operations of Pillow."""
    scale = source / target
    filter_scale = max(scale, 1.0)
    centers = (np.arange(target) + 0.5) * scale
    first = np.maximum((centers - filter_scale + 0.5).astype(np.int64), 0)
    last = np.minimum((centers + filter_scale + 0.5).astype(np.int64), source)
    offsets = np.arange(int((last - first).max()))
    distance = np.abs((first[:, None] + offsets - centers[:, None] + 0.5) * (1.0 / filter_scale))
    weights = np.where((distance < 1.0) & (offsets < (last - first)[:, None]), 1.0 - distance, 0.0)
    weights /= np.cumsum(weights, axis=1)[:, -1:]
    return first, (weights * (1 << _BITS) + 0.5).astype(np.int64)


@lru_cache(maxsize=64)
def _bands(source: int, target: int) -> List[_Band]:
    """Return the coefficients of one axis as products of a few targets; fewer at a time when it shrinks much."""
    first, coefficients = _coefficients(source, target)
    block = min(_BLOCK, max(1, int(_BLOCK_SOURCES / (source / target))))
    count, bands = coefficients.shape[1], []
    for start in range(0, target, block):
        part = slice(start, min(start + block, target))
        low, high = int(first[start]), int(first[part.stop - 1]) + count
        dense = np.zeros((part.stop - start, high - low), np.int64)
        for row, (at, taps) in enumerate(zip(first[part] - low, coefficients[part])):
            dense[row, at : at + count] = taps
        dense = dense[:, : source - low]
        bands.append(_Band(slice(low, min(high, source)), part, _as_floats(dense, count)))
    return bands


def _as_floats(coefficients: NDArray[np.int64], taps: int) -> NDArray[Any]:
    if taps > _MOST_TAPS:
        return coefficients * 2.0**-_BITS
    upper, lower = np.divmod(coefficients, 1 << _HALF_BITS)
    return np.concatenate([upper, lower * 2.0**-_HALF_BITS]).astype(np.float32)
