"""Which images of a folder: listing and deterministic sampling."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import List, Sequence, TypeVar

from blendmask_calibration.errors import CalibrationError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"})
Item = TypeVar("Item")


def list_images(folder: Path | str) -> list[Path]:
    """Return the image files under `folder`, subfolders included, sorted by their path below it.

    An image is a regular file with one of `SUFFIXES` in any case. Hidden files, and whatever lies in hidden folders,
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
    return shuffled(sorted(paths, key=Path.as_posix), seed)[:count]


def shuffled(items: Sequence[Item], seed: int) -> List[Item]:
    """Return the items in an order that depends on their number and `seed` only."""
    # A hash of the position rather than a library's generator, whose stream may change from version to version.
    ranks = sorted(range(len(items)), key=lambda position: hashlib.sha256(f"{seed}/{position}".encode()).digest())
    return [items[position] for position in ranks]


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)
