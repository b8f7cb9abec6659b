"""Frames that OpenCV captures: a camera, a video file, a URL."""

from __future__ import annotations

import re
import threading
import time
from typing import TYPE_CHECKING, Callable, Iterator, Optional, Union

import cv2
import numpy as np

from blendmask_edge.errors import ImageError, SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

_MOST_RATE = 1000.0
_RETRY_SECONDS = 0.5
RECONNECT_SECONDS = 10.0
"""How long a camera or URL that is lost is opened again and again before the stream ends."""
_MOST_BAD = 100
"""Frames of a file in a row that cannot be decoded before it is taken to have ended."""


class CapturedFrames:
    """Frames of a camera, video file or URL, upright, (H, W, 3) uint8.

    Attributes:
        rate: frames per second that the source states; None where it states none.
    """

    def __init__(self, address: Union[int, str], name: str, is_live: bool, channels: str) -> None:
        """Open the source and read a frame.

        Args:
            address: number of a camera, or what OpenCV opens.
            name: the source in messages.
            is_live: whether its frames come in real time, and it is opened again when it is lost.
            channels: order of the channels of the frames, "rgb" or "bgr".

        Raises:
            SourceError: it cannot be opened, or holds no frame.
        """
        self._open: Callable[[], Optional[cv2.VideoCapture]] = lambda: _open(address, is_live)
        self._name, self._is_live, self._is_rgb = name, is_live, channels == "rgb"
        self._is_interrupted = threading.Event()
        capture = self._open()
        if capture is None:
            raise SourceError(f"Cannot open {name}. {_advice(is_live, address)}")
        self._capture = capture
        self._bad = 0
        self._next = self._advance()
        if self._next is None:
            capture.release()
            raise SourceError(f"{name} holds no frame. {_advice(is_live, address)}")
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= _MOST_RATE else None

    def __iter__(self) -> Iterator[Image]:
        """Return the frames."""
        return self

    def __next__(self) -> Image:
        """Return the next frame.

        Raises:
            StopIteration: the file has ended.
            ImageError: the frame of a file cannot be decoded; the next call goes on with the next frame.
            SourceError: the camera or URL is lost.
        """
        if self._next is None:
            self._next = self._advance()
        if self._bad:
            self._bad -= 1
            raise ImageError(f"The frame of {self._name} cannot be decoded. Encode the video again if it matters.")
        frame, self._next = self._next, None
        if frame is None and self._is_live:
            frame = self._reconnect()
        if frame is None:
            raise StopIteration
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8) if self._is_rgb else frame

    def interrupt(self) -> None:
        """Give up a camera or URL that is lost; may be called while another thread waits for a frame."""
        self._is_interrupted.set()

    def close(self) -> None:
        """Release the device or file."""
        self._capture.release()

    def _advance(self) -> Optional[Image]:
        """Read the next frame, and count those of a file before it that cannot be decoded; None at its end."""
        for bad in range(1 if self._is_live else _MOST_BAD):
            frame = _read(self._capture)
            if frame is not None:
                self._bad = bad
                return frame
        return None

    def _reconnect(self) -> Image:
        end = time.monotonic() + RECONNECT_SECONDS
        while time.monotonic() < end:
            self._capture.release()
            if self._is_interrupted.wait(_RETRY_SECONDS):
                break
            self._capture = self._open() or self._capture
            frame = _read(self._capture)
            if frame is not None:
                return frame
        raise SourceError(
            f"{self._name} was lost, and not found again in {RECONNECT_SECONDS:g} seconds. {_advice(True)}"
        )


def _open(address: Union[int, str], is_live: bool) -> Optional[cv2.VideoCapture]:
    backend = cv2.CAP_GSTREAMER if _is_pipeline(address) else cv2.CAP_ANY
    try:
        capture = cv2.VideoCapture(address, backend)
    except cv2.error:
        return None
    if not capture.isOpened():
        capture.release()
        return None
    if is_live:
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not one that waited in the driver
    return capture


def _read(capture: cv2.VideoCapture) -> Optional[Image]:
    """Return the next frame as BGR, or None."""
    try:
        is_read, frame = capture.read()
    except cv2.error:
        return None
    if not is_read or frame is None:
        return None
    return np.asarray(frame if frame.ndim == 3 else cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), np.uint8)


def _is_pipeline(address: Union[int, str]) -> bool:
    return isinstance(address, str) and " ! " in address


def _advice(is_live: bool, address: Union[int, str] = "") -> str:
    if _is_pipeline(address) and not re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
        return (
            "This OpenCV has no GStreamer, as none of PyPI has: take one that has it, such as that of JetPack or the "
            "package python3-opencv of the system, or give an RTSP URL."
        )
    if is_live:
        return "Check that it is connected and that no other program uses it."
    return "Convert it to MP4 (H.264) or AVI (MJPEG), or give another source."
