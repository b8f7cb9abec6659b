"""List the images of a folder and sample them deterministically."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Iterator, List, Mapping, Sequence, TypeVar

from blendmask_calibration.errors import CalibrationError, require, require_each, require_path, require_whole

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"})
_MOST_LEVELS = 100
GIVE_IMAGES = "Give a folder with images of what the robot will see."
"""The advice where a folder holds no image that can be read."""
Item = TypeVar("Item")


def list_images(folder: Path | str) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted by relative path.

    Images are regular files with a suffix of `SUFFIXES`, in any case. Hidden files and folders are skipped, and
    subfolders that may not be read. A folder without images gives an empty list; `check_images` reports it.

    Raises:
        CalibrationError: `folder` is not a folder, cannot be read, or has subfolders in more than 100 levels.
    """
    require_path("folder", folder)
    root = Path(folder)
    if not os.path.isdir(root):
        raise CalibrationError(f"{root} is not a folder. Expected a folder of images: check the path and try again.")
    return sorted(_images(root), key=lambda path: path.relative_to(root).as_posix())


def holds_image(folder: Path | str) -> bool:
    """Return whether `list_images` lists anything; stops at the first image.

    Raises:
        CalibrationError: `folder` is not a path, or as `list_images`.
    """
    require_path("folder", folder)
    return any(True for _ in _images(Path(folder)))


def other_files(folder: Path | str) -> dict[str, int]:
    """Return the number of files that `list_images` does not list, by lower-case suffix; hidden files are skipped.

    Raises:
        CalibrationError: `folder` is not a path, or as `list_images`.
    """
    require_path("folder", folder)
    others = (path for path in _visible(Path(folder)) if path.suffix.lower() not in SUFFIXES)
    return dict(Counter(path.suffix.lower() for path in others if os.path.isfile(path)))


def describe_other_files(files: Mapping[str, int]) -> str:
    """Return a sentence on the result of `other_files`, most frequent suffix first, or "" if there are none."""
    if not files:
        return ""
    kinds = sorted(files, key=lambda suffix: (-files[suffix], suffix))
    shown = ", ".join(f"{files[kind]} {kind or 'without suffix'}" for kind in kinds[:4])
    return f" The folder also holds files that are not images: {shown}{', ...' if len(kinds) > 4 else ''}."


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


def _images(root: Path) -> Iterator[Path]:
    return (path for path in _visible(root) if path.suffix.lower() in SUFFIXES and os.path.isfile(path))


def _visible(root: Path) -> Iterator[Path]:
    """Yield what is in a folder and its subfolders and not hidden; folders may go away meanwhile."""
    try:
        os.scandir(root).close()
    except OSError as error:
        raise CalibrationError(f"Cannot read {root}: {error.strerror}. Give a folder that you may read.") from error
    deepest = len(root.parts) + _MOST_LEVELS
    for place, folders, names in os.walk(root):
        folder = Path(place)
        if len(folder.parts) > deepest:
            raise CalibrationError(
                f"{root} has folders in more than {_MOST_LEVELS} levels. Give one of its subfolders."
            )
        folders[:] = (name for name in folders if not name.startswith("."))
        yield from (folder / name for name in names if not name.startswith("."))
