"""Which images: listing, deterministic sampling, hashes, near-duplicates.

Nothing here decodes a image. The caller reads it with the decoder of the product, so that calibration sees the same
pixels as the network does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np
import numpy.typing as npt

from blendmask_calibration.errors import CalibrationError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"})
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


def list_images(folder: Path | str) -> list[Path]:
    """Return the image files under `folder`, subfolders included, sorted by their path below it.

    A image is a regular file with one of `SUFFIXES` in any case. Hidden files, and whatever lies in hidden folders,
    are skipped. An empty result is not an error here: the guard has the words for it.

    Raises:
        CalibrationError: `folder` is not a folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CalibrationError(f"{root} is not a folder. Expected a folder of images: check the path and try again.")
    found = {path.relative_to(root): path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES}
    visible = (name for name, path in found.items() if not _hidden(name) and path.is_file())
    return [found[name] for name in sorted(visible, key=Path.as_posix)]


def other_files(folder: Path | str) -> dict[str, int]:
    """Return how many files of each suffix, in lower case, lie under `folder` beside the images of `list_images`."""
    root = Path(folder)
    others = (p for p in root.rglob("*") if p.suffix.lower() not in SUFFIXES and not _hidden(p.relative_to(root)))
    return dict(Counter(path.suffix.lower() for path in others if path.is_file()))


def sample(paths: Sequence[Path], count: int, seed: int) -> list[Path]:
    """Return `count` of `paths` (all, when there are fewer) in an order that depends on their names and `seed` only.

    The order of `paths` and the folder's place on disk do not matter, nor does the version of Python or numpy. A larger
    `count` continues a smaller one, so the images after the first `n` can serve as held-out ones.

    Raises:
        CalibrationError: `count` is below 1.
    """
    if count < 1:
        raise CalibrationError(f"A sample of {count} images was asked for. Ask for at least 1.")
    ordered = sorted(paths, key=Path.as_posix)
    # A hash of the position rather than a library's generator, whose stream may change from version to version.
    ranks = sorted(range(len(ordered)), key=lambda position: hashlib.sha256(f"{seed}/{position}".encode()).digest())
    return [ordered[position] for position in ranks[:count]]


def sha256_file(path: Path | str) -> str:
    """Return the SHA-256 of the file's bytes in hexadecimal, read in pieces of 1 MiB. Raises OSError."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def describe(path: Path, rgb: npt.NDArray[np.uint8], root: Path | None = None) -> CalibrationImage:
    """Return the record of the image at `path` whose decoded pixels are `rgb` (uint8, (H, W, 3)).

    Its name is relative to `root`, or the bare file name without one. Raises CalibrationError and OSError.
    """
    name = path.relative_to(root).as_posix() if root else path.name
    mark = fingerprint(rgb)
    return CalibrationImage(name, sha256_file(path), int(rgb.shape[0]), int(rgb.shape[1]), mark)


def fingerprint(rgb: npt.NDArray[np.uint8]) -> str:
    """Return a perceptual hash of a image: 128 bits as 32 hexadecimal digits.

    Each bit says whether one cell of a coarse grid is brighter than its right-hand or lower neighbor (a difference
    hash in both directions). Resizing, recompression, exposure and a shift of about one per cent flip few bits. A
    image without any structure gives zero.

    Args:
        rgb: uint8, (H, W, 3), any size from 1x1.

    Raises:
        CalibrationError: the array is not such a image.
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


def require_rgb(rgb: npt.NDArray[np.uint8]) -> None:
    """Raise CalibrationError unless `rgb` is uint8 with shape (H, W, 3) and at least one pixel."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise CalibrationError(
            f"A image is {rgb.dtype} with shape {rgb.shape}. Expected uint8 with shape (height, width, 3) in RGB: "
            "convert it while reading."
        )


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _block_means(plane: npt.NDArray[np.int64], rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Average a plane over a grid of near-equal blocks; a plane smaller than the grid repeats its pixels."""
    top = np.arange(rows) * plane.shape[0] // rows
    left = np.arange(columns) * plane.shape[1] // columns
    sums = np.add.reduceat(np.add.reduceat(plane, top, axis=0), left, axis=1)
    heights = np.maximum(np.diff(top, append=plane.shape[0]), 1)
    widths = np.maximum(np.diff(left, append=plane.shape[1]), 1)
    return sums / np.outer(heights, widths)
