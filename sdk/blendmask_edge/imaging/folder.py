"""Find the images in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import List

from blendmask_edge.errors import SourceError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def images_in(folder: Path) -> List[Path]:
    """Return the images directly inside a folder, by name.

    Raises:
        SourceError: the folder cannot be read or holds no image.
    """
    try:
        images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    except OSError as error:
        raise SourceError(f"Cannot read {folder}: {error.strerror}. Give another folder.") from error
    if not images:
        raise SourceError(f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}). Give another folder.")
    return images
