"""Sources of a stream: a camera, a video file, a folder of images, a URL, any iterable of frames."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Optional, Union

import numpy as np

from blendmask_edge.errors import ConfigError, ImageError, SourceError
from blendmask_edge.imaging import read_image
from blendmask_edge.imaging.channels import swap_red_and_blue
from blendmask_edge.imaging.folder import IMAGE_SUFFIXES, images_in
from blendmask_edge.imaging.opencv import load_opencv

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

StreamSource = Union[int, str, "os.PathLike[str]", Iterable["Image"]]
_LAST_CAMERA, _LONGEST_NUMBER = 99, 9
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
_EXPECTED = "Give the number of a camera, a video file, a folder of images, a URL, or an iterable of frames."


@dataclass(frozen=True)
class Source:
    """An open source.

    frames: images; an `ImageError` concerns one of them.
    is_live: whether frames are lost while nobody reads them, as with a camera.
    rate: frames per second that the source states; None where it states none.
    interrupt: ends a wait for a camera that is lost; any thread may call it.
    close: releases what was opened; called by the thread that reads the frames.
    """

    frames: Iterator[Image]
    is_live: bool = False
    rate: Optional[float] = None
    interrupt: Callable[[], None] = lambda: None
    close: Callable[[], None] = lambda: None

    def time_of(self, index: int, captured: float) -> Optional[float]:
        """Return the time of a frame in seconds by the source's own clock; None where it has none.

        Args:
            index: number of the frame, from 0.
            captured: when it was captured, in seconds.
        """
        if self.is_live:
            return captured
        return None if self.rate is None else index / self.rate


def open_source(source: StreamSource, channels: str) -> Source:
    """Open a source.

    Args:
        source: number of a camera; path of a video file, an image, or a folder of images, in the order of their names;
            URL or GStreamer pipeline that OpenCV opens; or an iterable of (H, W, 3) uint8 frames.
        channels: order of the channels of the frames, "rgb" or "bgr"; frames of an iterable have it already.

    Raises:
        SourceError: it cannot be opened, or holds no frame.
        DependencyError: it is a camera, video or URL, and OpenCV is not installed.
        ConfigError: it is something else.
    """
    if isinstance(source, str) and is_address(source):
        if not is_number(source):
            return _captured(source, without_credentials(source), True, channels)
        return _camera(int(source) if len(source) <= _LONGEST_NUMBER else _LAST_CAMERA + 1, channels)
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fspath(source), channels)
    if isinstance(source, Integral) and not isinstance(source, bool):
        return _camera(int(source), channels)
    if isinstance(source, np.ndarray) and source.ndim < 4:
        raise ConfigError("The source is a single image. Call predictor(image), or give an iterable of frames.")
    if not isinstance(source, Iterable) or isinstance(source, (bytes, dict)):
        raise ConfigError(f"The source is a {type(source).__name__}. {_EXPECTED}")
    return Source(map(_copy, source))


def is_address(source: str) -> bool:
    """Whether a text names a camera, URL or GStreamer pipeline rather than a file."""
    return is_number(source) or "://" in source or " ! " in source


def is_number(source: str) -> bool:
    """Whether a text is a number of a camera, in digits that `int` takes."""
    return source.isascii() and source.isdigit()


def without_credentials(address: str) -> str:
    """Return a URL or GStreamer pipeline without user names and passwords, for messages and results."""
    return _CREDENTIALS.sub("", address)


def _camera(number: int, channels: str) -> Source:
    """Open a camera; OpenCV takes the hundreds of a number for a backend, and ends the process at a negative one."""
    if not 0 <= number <= _LAST_CAMERA:
        raise ConfigError(f"The source is the number of a camera below 0 or above {_LAST_CAMERA}. {_EXPECTED}")
    return _captured(number, f"Camera {number}", True, channels)


def _open_path(name: str, channels: str) -> Source:
    path = Path(name)
    mode = _mode(path)
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):  # which OpenCV would wait for without end
        raise SourceError(f"{name} is a pipe or socket. {_EXPECTED}")
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        files = images_in(path) if path.is_dir() else [path]
        return Source(map(partial(_read_file, channels=channels), files))
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SourceError(f"{name} has a name that is not UTF-8, which OpenCV cannot open. Rename it.") from error
    return _captured(name, name, path.is_char_device(), channels)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError is of a path that holds a NUL
        raise SourceError(f"{path} does not exist. {_EXPECTED}") from error
    except OSError as error:
        raise SourceError(f"Cannot open {path}: {error.strerror}. {_EXPECTED}") from error


def _captured(address: Union[int, str], name: str, is_live: bool, channels: str) -> Source:
    load_opencv(name)
    from blendmask_edge.streaming.capture import CapturedFrames

    frames = CapturedFrames(address, name, is_live, channels)
    return Source(frames, is_live, frames.rate, frames.interrupt, frames.close)


def _read_file(path: Path, channels: str) -> Image:
    image = read_image(path)
    return image if channels == "rgb" else swap_red_and_blue(image)


def _copy(frame: Any) -> Image:
    """Copy a frame, because many cameras write the next one into the same memory."""
    if not isinstance(frame, np.ndarray):
        raise ImageError(f"The source gave a {type(frame).__name__}, expected a frame of shape (height, width, 3).")
    return frame.copy()
