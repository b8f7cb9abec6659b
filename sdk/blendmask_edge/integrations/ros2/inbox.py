"""Messages on their way from a subscription to the stream of a predictor."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Dict, Iterator

from blendmask_edge.integrations.ros2.images import image_from_message
from blendmask_edge.streaming.channel import Channel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Inbox:
    """An iterator over the images of messages, which keeps the headers by the number of the frame.

    A message that waits gives way to a newer one, before it is decoded.

    Attributes:
        received: messages so far.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.received = 0
        self._messages: Channel[Any] = Channel(1, drops_oldest=True)
        self._headers: Dict[int, Any] = {}
        self._lock = threading.Lock()
        self._index = 0

    @property
    def dropped(self) -> int:
        """Messages that gave way to newer ones."""
        return self._messages.dropped

    def put(self, message: Any) -> None:
        """Take a `sensor_msgs/Image` or `CompressedImage`; never waits."""
        self.received += 1
        self._messages.put(message)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Return the inbox."""
        return self

    def __next__(self) -> NDArray[np.uint8]:
        """Return the next image, (H, W, 3) uint8 RGB; wait for a message.

        Raises:
            StopIteration: the inbox is closed.
            ImageError: the message holds no image that can be read; the next call goes on with the next message.
        """
        message = next(self._messages)
        with self._lock:
            self._headers[self._index] = message.header
            self._index += 1
        return image_from_message(message)

    def take_header(self, index: int) -> Any:
        """Return the header of a frame, and forget it and those of earlier frames.

        Args:
            index: number of the frame, from 0, counting those that failed.
        """
        with self._lock:
            for earlier in [number for number in self._headers if number < index]:
                del self._headers[earlier]
            return self._headers.pop(index)

    def close(self) -> None:
        """End the iteration, and discard what comes."""
        self._messages.abandon()
