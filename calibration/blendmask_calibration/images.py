"""One calibration image: its record, hashes and near-duplicates. Nothing here decodes a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np
import numpy.typing as npt

from blendmask_calibration.errors import CalibrationError

_GRID = 8


@dataclass(frozen=True)
class CalibrationImage:
    """One image as the bundle's manifest remembers it: enough to recognize it again, without its pixels.

    `height` and `width` are in pixels, as decoded; `sha256` is of the file's bytes, `fingerprint` of its pixels.
    """

    name: str
    sha256: str
    height: int
    width: int
    fingerprint: str


def sha256_file(path: Path | str) -> str:
    """Return the SHA-256 of the file's bytes in hexadecimal, read in pieces of 1 MiB. Raises OSError."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def sha256_pixels(rgb: npt.NDArray[np.uint8]) -> str:
    """Return the SHA-256 of the array's bytes in C order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(rgb).tobytes()).hexdigest()


def describe_pixels(name: str, rgb: npt.NDArray[np.uint8]) -> CalibrationImage:
    """Return the record of an image that is not a file; its hash is that of the array's bytes.

    Args:
        name: of the image, e.g. its position in the source.
        rgb: uint8, (H, W, 3).

    Raises:
        CalibrationError: the array is not such an image.
    """
    mark = fingerprint(rgb)
    return CalibrationImage(name, sha256_pixels(rgb), int(rgb.shape[0]), int(rgb.shape[1]), mark)


def describe(path: Path, rgb: npt.NDArray[np.uint8], root: Path | None = None) -> CalibrationImage:
    """Return the record of the image at `path` whose decoded pixels are `rgb` (uint8, (H, W, 3)).

    Its name is relative to `root`, or the bare file name without one. Raises CalibrationError and OSError.
    """
    name = path.relative_to(root).as_posix() if root else path.name
    mark = fingerprint(rgb)
    return CalibrationImage(name, sha256_file(path), int(rgb.shape[0]), int(rgb.shape[1]), mark)


def fingerprint(rgb: npt.NDArray[np.uint8]) -> str:
    """Return a perceptual hash of an image: 128 bits as 32 hexadecimal digits.

    Each bit says whether one cell of a coarse grid is brighter than its right-hand or lower neighbor (a difference
    hash in both directions). Resizing, recompression, exposure and a shift of about one per cent flip few bits. An
    image without any structure gives zero.

    Args:
        rgb: uint8, (H, W, 3), any size from 1x1.

    Raises:
        CalibrationError: the array is not such an image.
    """
    require_rgb(rgb)
    brightness = rgb.sum(axis=2, dtype=np.int64)
    across = _block_means(brightness, _GRID, _GRID + 1)
    down = _block_means(brightness, _GRID + 1, _GRID)
    bits = np.concatenate([(across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel()])
    return np.packbits(bits).tobytes().hex()


def near_duplicates(fingerprints: Sequence[str], distance: int) -> list[tuple[int, ...]]:
    """Group images whose fingerprints differ in at most `distance` bits, directly or through others of the group.

    Returns the groups of two or more as ascending indices into `fingerprints`, ordered by their first. Frames of one
    slow pan form one group although its ends differ. Takes time quadratic in the number of images (5000: seconds).
    """
    if len(fingerprints) < 2:
        return []
    signs = 2.0 * np.unpackbits(np.array([list(bytes.fromhex(mark)) for mark in fingerprints], np.uint8), axis=1) - 1
    group = np.arange(len(signs))
    for index, row in enumerate(signs):
        # Rows of +1 and -1: their product is the number of bits less twice the number that differ.
        close = signs[index:] @ row >= row.size - 2 * distance
        joined = group[index:][close]
        group[np.isin(group, joined)] = joined.min()
    members = (np.flatnonzero(group == first) for first in np.unique(group))
    return [tuple(indices.tolist()) for indices in members if len(indices) > 1]


def require_rgb(rgb: npt.NDArray[np.uint8], name: str = "A calibration image") -> None:
    """Raise CalibrationError unless `rgb` is uint8 with shape (H, W, 3) and at least one pixel."""
    if rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.size:
        return
    raise CalibrationError(
        f"{name} is {rgb.dtype} with shape {rgb.shape}. Expected uint8 with shape (height, width, 3) in RGB: "
        f"{_conversion(rgb)}."
    )


def _conversion(rgb: npt.NDArray[np.uint8]) -> str:
    """What turns the array into an image."""
    if rgb.dtype != np.uint8:
        return "give the pixels before they are normalized or scaled, 0 to 255"
    if rgb.ndim == 3 and rgb.shape[0] == 3:
        return "move the channels last, e.g. by numpy.moveaxis(image, 0, -1)"
    return "convert it while reading"


def _block_means(plane: npt.NDArray[np.int64], rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Average a plane over a grid of near-equal blocks; a plane smaller than the grid repeats its pixels."""
    top = np.arange(rows) * plane.shape[0] // rows
    left = np.arange(columns) * plane.shape[1] // columns
    sums = np.add.reduceat(np.add.reduceat(plane, top, axis=0), left, axis=1)
    heights = np.maximum(np.diff(top, append=plane.shape[0]), 1)
    widths = np.maximum(np.diff(left, append=plane.shape[1]), 1)
    return sums / np.outer(heights, widths)
