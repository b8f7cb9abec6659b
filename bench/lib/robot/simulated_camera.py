"""A camera in simulated time, which is lost and comes back, changes its size, and sends damaged JPEG."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import cv2
import numpy as np
from numpy.typing import NDArray

from blendmask_edge.imaging import decode_image

Image = NDArray[np.uint8]
SIZES = ((64, 96), (96, 144), (128, 192))
"""Sizes of a frame, all with the aspect of the network's input."""
SHADES = 50
_STEP = 4
_RETRY = 0.5
SHORT, LONG = (1.0, 8.0), (15.0, 90.0)
"""Seconds for which the camera is lost; the stream opens it again for ten."""


@dataclass
class Clock:
    """Seconds that pass only when the camera lets them."""

    now: float = 0.0

    def time(self) -> float:
        """Return the seconds since the start."""
        return self.now


@dataclass
class SimulatedCamera:
    """Frames at a fixed rate until `end`, and faults at random; each frame has a shade that tells its number.

    clock: advanced by each frame, and by each attempt to open the camera.
    rate: frames per second.
    end: seconds at which it is gone for good.
    random: draws the faults.
    per_hour: how often each fault occurs: "lost for seconds", "lost for a minute", "size changes", "damaged JPEG".
    """

    clock: Clock
    rate: float
    random: np.random.Generator
    per_hour: dict[str, float]
    end: float = 0.0
    delivered: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    _lost_until: float = -1.0
    _size: int = 0

    @property
    def is_there(self) -> bool:
        """Whether it can be opened and read now."""
        return self._lost_until <= self.clock.now < self.end

    def frame(self) -> Image | None:
        """Return the next frame as BGR; None where the camera is lost."""
        self.clock.now += 1 / self.rate
        for name, seconds in (("lost for seconds", SHORT), ("lost for a minute", LONG)):
            if self._occurs(name):
                self._lost_until = self.clock.now + self.random.uniform(*seconds)
        if not self.is_there:
            return None
        if self._occurs("size changes"):
            self._size = (self._size + 1) % len(SIZES)
        self.delivered += 1
        return np.full((*SIZES[self._size], 3), (0, 0, shade(self.delivered)), np.uint8)

    def jpegs(self) -> Iterator[bytes]:
        """Yield frames as JPEG, some of them damaged, until the end; a camera that is lost sends none."""
        while self.clock.now < self.end:
            frame = self.frame()
            if frame is None:
                continue
            data = cv2.imencode(".jpg", frame)[1].tobytes()
            yield data[: len(data) // 3] if self._occurs("damaged JPEG") else data

    def _occurs(self, fault: str) -> bool:
        occurs = self.is_there and self.random.random() < self.per_hour[fault] / (3600 * self.rate)
        self.faults[fault] += occurs
        return occurs


def shade(number: int) -> int:
    """Red of a frame."""
    return 255 - _STEP * (number % SHADES)


def same_shade(one: float, other: float) -> bool:
    """Whether two values of red are of one frame; JPEG changes them a little."""
    return abs(one - other) < _STEP / 2


class JpegFrames:
    """An iterator that goes on behind a frame that cannot be decoded, as a driver of a network camera does."""

    def __init__(self, camera: SimulatedCamera) -> None:
        """Take the camera's JPEGs."""
        self._data = camera.jpegs()

    def __iter__(self) -> JpegFrames:
        """Return the iterator."""
        return self

    def __next__(self) -> Image:
        """Return the next frame as RGB."""
        return decode_image(next(self._data), "the frame")


class _Capture:
    """Stand-in for `cv2.VideoCapture`."""

    def __init__(self, camera: SimulatedCamera) -> None:
        self._camera = camera
        if not camera.is_there:
            camera.clock.now += _RETRY
        self._is_open = camera.is_there

    def isOpened(self) -> bool:
        return self._is_open

    def read(self) -> tuple[bool, Image | None]:
        frame = self._camera.frame() if self._is_open else None
        self._is_open = frame is not None
        return frame is not None, frame

    def get(self, _: int) -> float:
        return self._camera.rate

    def set(self, *_: Any) -> bool:
        return True

    def release(self) -> None:
        self._is_open = False


@contextmanager
def installed(camera: SimulatedCamera) -> Iterator[None]:
    """Let streams open the camera in the place of each one of OpenCV, and see the simulated time."""
    clock = camera.clock
    simulated = SimpleNamespace(time=clock.time, perf_counter=clock.time, monotonic=clock.time)
    # Closing a stream waits for its threads in real time.
    pipeline = SimpleNamespace(time=clock.time, perf_counter=clock.time, monotonic=time.monotonic)
    with ExitStack() as stack:
        for name, value in (
            ("cv2.VideoCapture", lambda *_: _Capture(camera)),
            ("blendmask_edge.streaming.capture.time", simulated),
            ("blendmask_edge.streaming.stream.time", simulated),
            ("blendmask_edge.streaming.pipeline.time", pipeline),
            ("blendmask_edge.streaming.capture._RETRY_SECONDS", 0.0),
        ):
            stack.enter_context(mock.patch(name, value))
        yield


@contextmanager
def failing_runtime(camera: SimulatedCamera, name: str) -> Iterator[None]:
    """Let ONNX Runtime raise an exception at random, as often as `camera.per_hour[name]` says."""
    import onnxruntime

    run, lock = onnxruntime.InferenceSession.run, threading.Lock()
    random = np.random.default_rng(7)

    def failing(*arguments: Any, **options: Any) -> Any:
        if random.random() < camera.per_hour[name] / (3600 * camera.rate):
            with lock:
                camera.faults[name] += 1
            raise RuntimeError("simulated failure of the device")
        return run(*arguments, **options)

    with mock.patch.object(onnxruntime.InferenceSession, "run", failing):
        yield
