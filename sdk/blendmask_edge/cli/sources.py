"""Find the images, videos and cameras that a command line names."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterable, List, Union

from blendmask_edge.errors import SourceError
from blendmask_edge.imaging.folder import images_in
from blendmask_edge.streaming.sources import is_address, without_credentials

Source = Union[Path, str]
"""A file, or the number of a camera or URL."""
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"})


def find_sources(names: Iterable[str]) -> List[Source]:
    """Return the files and cameras among `names`, and in the place of a folder the images in it, by name.

    Raises:
        SourceError: a path does not exist, or a folder holds no image.
    """
    sources: Dict[Source, None] = {}
    for name in names:
        path = Path(name)
        if not path.exists() and is_address(name):
            sources[name] = None
            continue
        if not path.exists():
            raise SourceError(
                f"{path} does not exist. Give image files, folders of them, video files, cameras by number, or URLs."
            )
        sources.update(dict.fromkeys(images_in(path) if path.is_dir() else [path]))
    return list(sources)


def is_video(source: Source) -> bool:
    """Whether a source has more than one frame: a camera or URL, or a file with the name of a video."""
    return isinstance(source, str) or source.suffix.lower() in VIDEO_SUFFIXES


def stem_of(source: Source) -> str:
    """Return the name of a source without its suffix, for a file that is made of it."""
    if isinstance(source, Path):
        return source.stem
    if source.isdigit():
        return f"camera-{source}"
    address = without_credentials(source).rpartition("://")[2]
    words = "".join(character if character.isalnum() else " " for character in address).split()
    return "-".join(words)[:80] or "stream"


def name_of(source: Source) -> str:
    """Return the name of a source for messages and results: a path, a number, or a URL without its password."""
    return str(source) if isinstance(source, Path) else without_credentials(source)
