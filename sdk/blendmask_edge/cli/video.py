"""Read the frames of a video file, and write frames into one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Optional

import cv2
import numpy as np

from blendmask_edge.errors import ImageError, OutputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

_UNKNOWN_RATE = 25.0
_MOST_RATE = 1000.0


class VideoReader:
    """The frames of a video file, upright, (H, W, 3) uint8 BGR.

    Attributes:
        rate: frames in a second; 25 where the file states none.
    """

    def __init__(self, path: Path) -> None:
        """Open a video file.

        Raises:
            ImageError: OpenCV cannot open it.
        """
        if not _is_utf8(path):
            raise ImageError(f"{path} has a name that is not UTF-8, which OpenCV cannot open as a video. Rename it.")
        self._path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise ImageError(f"{path} is not a video that OpenCV reads. Convert it to MP4 (H.264) or AVI (MJPEG).")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= _MOST_RATE else _UNKNOWN_RATE

    def __iter__(self) -> Iterator[Image]:
        """Yield the frames and close the file.

        Raises:
            ImageError: there is none.
        """
        count = 0
        try:
            while True:
                done, frame = self._capture.read()
                if not done:
                    break
                count += 1
                yield np.asarray(frame, np.uint8)
        finally:
            self._capture.release()
        if not count:
            raise ImageError(f"{self._path} holds no frame. Give another video file.")


class VideoWriter:
    """A video file of frames, (H, W, 3) uint8 BGR; it begins with the first frame and has its size."""

    def __init__(self, path: Path, rate: float) -> None:
        """Remember the place; nothing is written before the first frame."""
        self._path, self._rate = path, rate
        self._writer: Optional[cv2.VideoWriter] = None
        self._size = (0, 0)

    def write(self, frame: Image) -> None:
        """Append a frame, resized to the first one.

        Raises:
            OutputError: this OpenCV writes no such video.
        """
        if self._writer is None:
            if not _is_utf8(self._path):
                raise OutputError(
                    f"{self._path.parent.parent} has a name that is not UTF-8, and OpenCV writes no video there. "
                    "Give --output another folder."
                )
            self._size = (frame.shape[1], frame.shape[0])
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), code, self._rate, self._size)
            if not self._writer.isOpened():
                raise OutputError(f"This OpenCV cannot write {self._path.name}. Give single images instead of a video.")
        same = (frame.shape[1], frame.shape[0]) == self._size
        self._writer.write(frame if same else cv2.resize(frame, self._size))

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


def _is_utf8(path: Path) -> bool:
    """Whether OpenCV can take a file name; it crashes on the others."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
