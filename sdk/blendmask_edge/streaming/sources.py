"""What a stream can read: a camera, a video file, a folder of images, a URL, any iterable of frames."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, Optional, Union

import cv2
import numpy as np

from blendmask_edge.errors import ConfigError, ImageError, SourceError
from blendmask_edge.imaging import read_image
from blendmask_edge.imaging.folder import IMAGE_SUFFIXES, images_in
from blendmask_edge.streaming.capture import CapturedFrames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

StreamSource = Union[int, str, "os.PathLike[str]", Iterable["Image"]]
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
        ConfigError: it is something else.
    """
    if isinstance(source, str) and is_address(source):
        is_camera = source.isdigit()
        name = f"Camera {source}" if is_camera else source
        return _captured(int(source) if is_camera else source, name, True, channels)
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fspath(source), channels)
    if isinstance(source, Integral) and not isinstance(source, bool):
        return _captured(int(source), f"Camera {source}", True, channels)
    if isinstance(source, np.ndarray) and source.ndim < 4:
        raise ConfigError("The source is a single image. Call predictor(image), or give an iterable of frames.")
    if not isinstance(source, Iterable) or isinstance(source, (bytes, dict)):
        raise ConfigError(f"The source is a {type(source).__name__}. {_EXPECTED}")
    return Source(map(_copy, source))


def is_address(source: str) -> bool:
    """Whether a text names a camera, URL or GStreamer pipeline rather than a file."""
    return source.isdigit() or "://" in source or " ! " in source


def _open_path(name: str, channels: str) -> Source:
    path = Path(name)
    if not path.exists():
        raise SourceError(f"{name} does not exist. {_EXPECTED}")
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        files = images_in(path) if path.is_dir() else [path]
        return Source(map(partial(_read_file, channels=channels), files))
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise SourceError(f"{name} has a name that is not UTF-8, which OpenCV cannot open. Rename it.") from error
    return _captured(name, name, path.is_char_device(), channels)


def _captured(address: Union[int, str], name: str, is_live: bool, channels: str) -> Source:
    frames = CapturedFrames(address, name, is_live, channels)
    return Source(frames, is_live, frames.rate, frames.interrupt, frames.close)


def _read_file(path: Path, channels: str) -> Image:
    image = read_image(path)
    return image if channels == "rgb" else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)


def _copy(frame: Any) -> Image:
    """Copy a frame, because many cameras write the next one into the same memory."""
    if not isinstance(frame, np.ndarray):
        raise ImageError(f"The source gave a {type(frame).__name__}, expected a frame of shape (height, width, 3).")
    return frame.copy()
