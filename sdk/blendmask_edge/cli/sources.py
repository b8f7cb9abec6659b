"""Find the images and videos that a command line names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterable, List

from blendmask_edge.errors import ImageError
from blendmask_edge.imaging.folder import images_in

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"})


def find_sources(paths: Iterable[PathLike]) -> List[Path]:
    """Return the files among `paths`, and in their place the images directly inside each folder, by name.

    Raises:
        ImageError: a path does not exist, or a folder holds no image.
    """
    found: Dict[Path, None] = {}
    for path in map(Path, paths):
        if not os.path.exists(path):
            raise ImageError(f"{path} does not exist. Give image files, folders of them, or video files.")
        found.update(dict.fromkeys(images_in(path) if os.path.isdir(path) else [path]))
    return list(found)


def is_video(path: Path) -> bool:
    """Whether the name of a file is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES
