"""Messages on their way from a subscription to the stream of a predictor."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, Dict, Iterator

from blendmask_edge.integrations.ros2.images import image_from_message
from blendmask_edge.streaming.channel import Channel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_UNDERWAY = 2
"""Images between here and their results: one in the network, one that waits for it."""
_RECENT = 5
_LEAD, _SLACK = 2.0, 0.005
"""How much earlier than it is needed an image is decoded: times of decoding, and seconds."""


class Inbox:
    """An iterator over the images of messages, which keeps the headers by the number of the frame.

    A message that waits gives way to a newer one. A message is decoded only when its image will be used: as late as
    lets it be ready when the network has finished the image before it, so that it is as new as can be.

    Attributes:
        received: messages so far.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.received = 0
        self._messages: Channel[Any] = Channel(1, drops_oldest=True)
        self._headers: Dict[int, Any] = {}
        self._changed = threading.Condition()
        self._index = 0
        self._is_closed = False
        self._last_result = 0.0
        self._intervals: Deque[float] = deque(maxlen=_RECENT)
        self._decoding: Deque[float] = deque(maxlen=_RECENT)

    @property
    def dropped(self) -> int:
        """Messages that gave way to newer ones, none of which was decoded."""
        return self._messages.dropped

    def put(self, message: Any) -> None:
        """Take a `sensor_msgs/Image` or `CompressedImage`; never waits."""
        self.received += 1
        self._messages.put(message)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Return the inbox."""
        return self

    def __next__(self) -> NDArray[np.uint8]:
        """Return the next image, (H, W, 3) uint8 RGB; wait until it is needed, and for a message.

        Raises:
            StopIteration: the inbox is closed.
            ImageError: the message holds no image that can be read; the next call goes on with the next message.
        """
        self._wait_until_needed()
        message = next(self._messages)
        with self._changed:
            self._headers[self._index] = message.header
            self._index += 1
        start = time.perf_counter()
        image = image_from_message(message)
        self._decoding.append(time.perf_counter() - start)
        return image

    def take_header(self, index: int) -> Any:
        """Return the header of a frame that has a result or an error, and forget it and those of earlier frames.

        Args:
            index: number of the frame, from 0, counting those that failed.
        """
        with self._changed:
            for earlier in [number for number in self._headers if number < index]:
                del self._headers[earlier]
            header = self._headers.pop(index)
            now = time.perf_counter()
            if self._headers:  # the network had the next image at once, so that this is its time
                self._intervals.append(now - self._last_result)
            self._last_result = now
            self._changed.notify_all()
            return header

    def close(self) -> None:
        """End the iteration, and discard what comes."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._messages.abandon()

    def _wait_until_needed(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or len(self._headers) < MOST_UNDERWAY)
            if self._headers and self._intervals:
                lead = _LEAD * max(self._decoding, default=0.0) + _SLACK
                seconds = self._last_result + min(self._intervals) - lead - time.perf_counter()
                self._changed.wait_for(lambda: self._is_closed or not self._headers, max(0.0, seconds))
