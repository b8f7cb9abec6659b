"""List the images of a folder and sample them deterministically."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import List, Sequence, TypeVar

from blendmask_calibration.errors import CalibrationError, require, require_each, require_path, require_whole

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"})
Item = TypeVar("Item")


def list_images(folder: Path | str) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted by relative path.

    Images are regular files with a suffix of `SUFFIXES`, in any case. Hidden files and folders are skipped. A folder
    without images gives an empty list; `check_images` reports it.

    Raises:
        CalibrationError: `folder` is not a folder.
    """
    require_path("folder", folder)
    root = Path(folder)
    if not os.path.isdir(root):
        raise CalibrationError(f"{root} is not a folder. Expected a folder of images: check the path and try again.")
    paths = {path.relative_to(root): path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES}
    visible = (name for name, path in paths.items() if not _hidden(name) and os.path.isfile(path))
    return [paths[name] for name in sorted(visible, key=Path.as_posix)]


def other_files(folder: Path | str) -> dict[str, int]:
    """Return the number of files that `list_images` does not list, by lower-case suffix; hidden files are skipped.

    Raises:
        CalibrationError: `folder` is not a path.
    """
    require_path("folder", folder)
    root = Path(folder)
    others = (p for p in root.rglob("*") if p.suffix.lower() not in SUFFIXES and not _hidden(p.relative_to(root)))
    return dict(Counter(path.suffix.lower() for path in others if os.path.isfile(path)))


def sample(paths: Sequence[Path], count: int, seed: int) -> list[Path]:
    """Sample paths without replacement.

    The result depends only on the names and the seed, not on the order of `paths`, the location of the folder, or the
    versions of Python and numpy. A larger `count` extends the result of a smaller one, so that the images after the
    first N can be held out.

    Args:
        paths: paths to sample from.
        count: number of paths to return, 1 or more; all are returned if there are fewer.
        seed: seed of the random order.

    Raises:
        CalibrationError: an argument has another type, or `count` is below 1.
    """
    require_each("paths", paths, lambda path: isinstance(path, Path), "a sequence of pathlib.Path")
    require_whole("count", count)
    require_seed(seed)
    return shuffled(sorted(paths, key=Path.as_posix), seed)[:count]


def shuffled(items: Sequence[Item], seed: int) -> List[Item]:
    """Return the items in an order that depends only on their number and the seed."""
    # Hashes of the positions, because the stream of a library's generator may change with its version.
    ranks = sorted(range(len(items)), key=lambda position: hashlib.sha256(f"{seed}/{position}".encode()).digest())
    return [items[position] for position in ranks]


def require_seed(seed: int) -> None:
    """Raise CalibrationError unless the seed is an integer."""
    require(isinstance(seed, int) and not isinstance(seed, bool), "seed", seed, "an integer")


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
