"""Stages in threads of their own, each of which takes what the one before it made."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from blendmask_edge.errors import BlendMaskError, ConfigError, ImageError, InferenceError, SourceError
from blendmask_edge.streaming.channel import Channel

if TYPE_CHECKING:
    from blendmask_edge.streaming.sources import Source

_PATIENCE = 2.0
"""Seconds that closing waits for the threads; a camera that hangs in its driver cannot be ended from outside."""


@dataclass
class Ticket:
    """One frame on its way.

    index: number of the frame in the source, from 0.
    captured: when it was captured, seconds of `time.time`.
    started: when it was captured, seconds of `time.perf_counter`.
    frame: as captured; None where that failed.
    value: result of the last stage.
    seconds: duration of each stage so far.
    error: why the frame has no result.
    """

    index: int
    captured: float
    started: float
    frame: Any
    value: Any
    seconds: Tuple[float, ...] = ()
    error: Optional[BlendMaskError] = None


class Stage(NamedTuple):
    """Name of a stage, and the function that makes its value from a ticket with the value of the stage before."""

    name: str
    work: Callable[[Ticket], Any]


class Pipeline:
    """A source and stages that run until the source ends, or `close`."""

    def __init__(self, source: Source, stages: Sequence[Stage], depth: int, drops_oldest: bool) -> None:
        """Prepare the threads; `start` runs them.

        Args:
            source: an `ImageError` of its frames concerns one of them, any other error ends it.
            stages: applied to each frame, in order; an `ImageError`, `InferenceError` or `ConfigError` concerns one
                frame.
            depth: most frames that wait between two threads.
            drops_oldest: whether frames that wait give way to newer ones, before each stage, so that none is old when
                its turn comes.
        """
        self._channels: List[Channel[Ticket]] = [Channel(depth, drops_oldest) for _ in range(len(stages) + 1)]
        self._source = source
        self._threads = [_thread("capture", _capture, source, self._channels[0])]
        for stage, before, after in zip(stages, self._channels, self._channels[1:]):
            self._threads.append(_thread(stage.name, _run, stage.work, before, after))

    @property
    def results(self) -> Channel[Ticket]:
        """Tickets that have passed all stages."""
        return self._channels[-1]

    @property
    def dropped(self) -> int:
        """Frames that gave way to newer ones."""
        return sum(channel.dropped for channel in self._channels)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads and wait for them; can be repeated."""
        for channel in self._channels:
            channel.abandon()
        self._source.interrupt()
        if self._threads[0].ident is None:
            self._source.close()
        end = time.monotonic() + _PATIENCE
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))


def _thread(name: str, target: Callable[..., None], *arguments: Any) -> threading.Thread:
    return threading.Thread(target=target, args=arguments, name=f"blendmask {name}", daemon=True)


def _capture(source: Source, sink: Channel[Ticket]) -> None:
    """Number the frames, and close the source after the last one."""
    error: Optional[BaseException] = None
    try:
        index = 0
        while sink.put(_next_ticket(source.frames, index)):
            index += 1
    except StopIteration:
        pass
    except BaseException as failure:  # whatever a source raises is raised again where its frames are read
        error = failure
    finally:
        source.close()
        sink.finish(error)


def _next_ticket(frames: Iterator[Any], index: int) -> Ticket:
    failure: Optional[BlendMaskError] = None
    frame = None
    try:
        frame = next(frames)
    except SourceError:
        raise
    except ImageError as error:
        failure = error
    return Ticket(index, time.time(), time.perf_counter(), frame, frame, error=failure)


def _run(work: Callable[[Ticket], Any], source: Channel[Ticket], sink: Channel[Ticket]) -> None:
    error: Optional[BaseException] = None
    try:
        for ticket in source:
            _apply(work, ticket)
            if not sink.put(ticket):
                break
    except BaseException as failure:  # raised again where the results are read
        error = failure
    finally:
        source.abandon()
        sink.finish(error)


def _apply(work: Callable[[Ticket], Any], ticket: Ticket) -> None:
    if ticket.error is not None:
        return
    start = time.perf_counter()
    try:
        ticket.value = work(ticket)
    except SourceError:
        raise
    except (ImageError, InferenceError, ConfigError) as error:  # the last of a region that is not in a smaller frame
        ticket.value, ticket.error = None, error
    ticket.seconds = (*ticket.seconds, time.perf_counter() - start)
