"""A bounded queue between two threads, which either side can end."""

from __future__ import annotations

import threading
from collections import deque
from typing import Deque, Generic, Iterator, Optional, TypeVar

Item = TypeVar("Item")


class Channel(Generic[Item]):
    """Items from one thread to another, in order.

    The writer ends it by `finish`: the reader gets what is left, then the error, or the end of the iteration. The
    reader, or anybody else, ends it by `abandon`: what is left is discarded, and the next call of each side ends it.

    Attributes:
        dropped: items that gave way to newer ones.
    """

    def __init__(self, depth: int, drops_oldest: bool = False) -> None:
        """Make an empty channel.

        Args:
            depth: most items that wait.
            drops_oldest: whether a full channel drops its oldest item for a new one; else the writer waits for room.
        """
        self.dropped = 0
        self._depth = depth
        self._drops_oldest = drops_oldest
        self._items: Deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_finished = False
        self._is_abandoned = False
        self._error: Optional[BaseException] = None

    def put(self, item: Item) -> bool:
        """Append an item; return whether anybody will read it."""
        with self._changed:
            while len(self._items) >= self._depth and not self._is_abandoned:
                if self._drops_oldest:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if self._is_abandoned:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def finish(self, error: Optional[BaseException] = None) -> None:
        """State that no item follows, because of an error or not."""
        with self._changed:
            self._is_finished, self._error = True, error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Discard what is left and what comes."""
        with self._changed:
            self._is_abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        """Return the channel."""
        return self

    def __next__(self) -> Item:
        """Return the oldest item; wait where there is none.

        Raises:
            StopIteration: the channel has ended.
            BaseException: the error that the writer finished with, once.
        """
        with self._changed:
            while not (self._items or self._is_finished or self._is_abandoned):
                self._changed.wait()
            if not self._items:
                error, self._error = self._error, None
                raise StopIteration if error is None or self._is_abandoned else error
            item = self._items.popleft()
            self._changed.notify_all()
            return item
