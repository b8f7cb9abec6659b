"""Hashes and records of calibration images, and the search for near-duplicates. Decodes no files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np
import numpy.typing as npt

from blendmask_calibration.errors import CalibrationError, require, require_each, require_path, require_whole

_BLOCKS = 8
_FINGERPRINT = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class CalibrationImage:
    """The record of one image, from which it can be recognized.

    Attributes:
        name: path relative to the calibration folder, or position in the iterable.
        sha256: SHA-256 of the file's bytes, or of the array's, hexadecimal.
        height, width: size of the decoded image in pixels.
        fingerprint: perceptual hash of the pixels; see `fingerprint`.
    """

    name: str
    sha256: str
    height: int
    width: int
    fingerprint: str


def sha256_file(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal.

    Raises:
        CalibrationError: `path` is not a path.
        OSError: the file cannot be read.
    """
    require_path("path", path)
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_pixels(rgb: npt.NDArray[np.uint8]) -> str:
    """Return the SHA-256 of an array's bytes in C order, hexadecimal.

    Raises:
        CalibrationError: the value is not an array of numbers.
    """
    fits = isinstance(rgb, np.ndarray) and rgb.dtype.kind in "biuf"
    require(fits, "rgb", rgb, "an array of numbers")
    return hashlib.sha256(np.ascontiguousarray(rgb).tobytes()).hexdigest()


def describe_pixels(name: str, rgb: npt.NDArray[np.uint8]) -> CalibrationImage:
    """Return the record of an image without a file.

    Args:
        name: name of the image, e.g. its position in the iterable.
        rgb: (H, W, 3) uint8 RGB.

    Raises:
        CalibrationError: the array has another dtype or shape.
    """
    require(isinstance(name, str), "name", name, "text")
    perceptual = fingerprint(rgb)
    return CalibrationImage(name, sha256_pixels(rgb), int(rgb.shape[0]), int(rgb.shape[1]), perceptual)


def describe(path: Path, rgb: npt.NDArray[np.uint8], root: Path | None = None) -> CalibrationImage:
    """Return the record of an image file.

    Args:
        path: path of the file.
        rgb: its decoded pixels, (H, W, 3) uint8 RGB.
        root: folder that the recorded name is relative to; None records the file name only.

    Raises:
        CalibrationError: the array has another dtype or shape.
        OSError: the file cannot be read.
    """
    require(isinstance(path, Path), "path", path, "pathlib.Path")
    require(root is None or (isinstance(root, Path) and root in path.parents), "root", root, "a folder above the file")
    name = path.relative_to(root).as_posix() if root else path.name
    perceptual = fingerprint(rgb)
    return CalibrationImage(name, sha256_file(path), int(rgb.shape[0]), int(rgb.shape[1]), perceptual)


def fingerprint(rgb: npt.NDArray[np.uint8]) -> str:
    """Return a perceptual hash: 128 bits as 32 hexadecimal digits.

    A difference hash in both directions: each bit states whether a block of the image is brighter than its right or
    lower neighbor. Resizing, recompression, exposure and shifts of about one percent flip few bits. An image of one
    color gives zero.

    Args:
        rgb: (H, W, 3) uint8 RGB, any size from 1x1.

    Raises:
        CalibrationError: the array has another dtype or shape.
    """
    require_rgb(rgb)
    brightness = rgb.sum(axis=2, dtype=np.int64)
    across = _block_means(brightness, _BLOCKS, _BLOCKS + 1)
    down = _block_means(brightness, _BLOCKS + 1, _BLOCKS)
    bits = np.concatenate([(across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel()])
    return np.packbits(bits).tobytes().hex()


def near_duplicates(fingerprints: Sequence[str], distance: int) -> list[tuple[int, ...]]:
    """Group images whose fingerprints differ in at most `distance` bits.

    Groups are connected components: the frames of a slow pan form one group, although its ends differ. The time is
    quadratic in the number of images; 5000 images take seconds.

    Args:
        fingerprints: results of `fingerprint`.
        distance: largest number of different bits, 0 to 128.

    Returns:
        Groups of two or more images, each as ascending indices into `fingerprints`, sorted by their first index.

    Raises:
        CalibrationError: a fingerprint is none, or the distance is negative.
    """
    require_each("fingerprints", fingerprints, _is_fingerprint, "results of `fingerprint`")
    require_whole("distance", distance, 0)
    if len(fingerprints) < 2:
        return []
    packed = np.array([list(bytes.fromhex(digits)) for digits in fingerprints], np.uint8)
    signs = 2.0 * np.unpackbits(packed, axis=1) - 1
    group = np.arange(len(signs))
    for index, row in enumerate(signs):
        # The product of rows of +1 and -1 is the number of bits minus twice the number of differing bits.
        close = signs[index:] @ row >= row.size - 2 * distance
        joined = group[index:][close]
        group[np.isin(group, joined)] = joined.min()
    members = (np.flatnonzero(group == first) for first in np.unique(group))
    return [tuple(indices.tolist()) for indices in members if len(indices) > 1]


def require_rgb(rgb: npt.NDArray[np.uint8], name: str = "A calibration image") -> None:
    """Raise CalibrationError unless `rgb` is a uint8 array of shape (H, W, 3) with at least one pixel."""
    require(isinstance(rgb, np.ndarray), name, rgb, "a NumPy array, uint8 (height, width, 3) in RGB")
    if rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.size:
        return
    raise CalibrationError(
        f"{name} is {rgb.dtype} with shape {rgb.shape}. Expected uint8 with shape (height, width, 3) in RGB: "
        f"{_conversion(rgb)}."
    )


def _is_fingerprint(value: object) -> bool:
    return isinstance(value, str) and _FINGERPRINT.fullmatch(value) is not None


def _conversion(rgb: npt.NDArray[np.uint8]) -> str:
    """Return advice on how to convert the array to an image."""
    if rgb.dtype != np.uint8:
        return "give the pixels before they are normalized or scaled, 0 to 255"
    if rgb.ndim == 3 and rgb.shape[0] == 3:
        return "move the channels last, e.g. by numpy.moveaxis(image, 0, -1)"
    return "convert it while reading"


def _block_means(plane: npt.NDArray[np.int64], rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Return the means of `rows` x `columns` blocks of nearly equal size; smaller planes repeat their pixels."""
    top = np.arange(rows) * plane.shape[0] // rows
    left = np.arange(columns) * plane.shape[1] // columns
    sums = np.add.reduceat(np.add.reduceat(plane, top, axis=0), left, axis=1)
    heights = np.maximum(np.diff(top, append=plane.shape[0]), 1)
    widths = np.maximum(np.diff(left, append=plane.shape[1]), 1)
    return sums / np.outer(heights, widths)
