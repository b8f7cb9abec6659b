"""Write frames into a video file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

import cv2

from blendmask_edge.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

_UNKNOWN_RATE = 25.0


class VideoWriter:
    """A video file of frames, (H, W, 3) uint8 BGR; it begins with the first frame and has its size."""

    def __init__(self, path: Path, rate: Optional[float]) -> None:
        """Remember the place; nothing is written before the first frame.

        Args:
            path: of the file, an MP4.
            rate: frames per second; None takes 25.
        """
        self._path, self._rate = path, rate or _UNKNOWN_RATE
        self._writer: Optional[cv2.VideoWriter] = None
        self._size = (0, 0)
        self._written = 0

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
        self._written += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            OutputError: it is not whole, as on a full disk, which OpenCV does not tell.
        """
        if self._writer is not None:
            self._writer.release()
            frames = _count_frames(self._path)
            if frames < self._written:
                raise OutputError(
                    f"{self._path.name} holds {frames} of {self._written} frames. Check that the disk has room, and "
                    "try again."
                )


def _count_frames(path: Path) -> int:
    """Return the number of frames that the end of a video file states; 0 for a file without its end."""
    capture = cv2.VideoCapture(str(path))
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        capture.release()


def _is_utf8(path: Path) -> bool:
    """Whether OpenCV can take a file name; it crashes on the others."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
