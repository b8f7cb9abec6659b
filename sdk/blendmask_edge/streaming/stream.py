"""Results of a source, frame by frame, while the next frames are captured and computed."""

from __future__ import annotations

import logging
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional, Sequence, Tuple

from blendmask_edge.streaming.pipeline import Pipeline, Stage, Ticket
from blendmask_edge.streaming.report import Meter, StreamReport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.errors import BlendMaskError
    from blendmask_edge.instances import Instances
    from blendmask_edge.streaming.sources import Source

    OnError = Callable[[int, BlendMaskError], None]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamResult:
    """A frame and its instances; unpacks as `frame, instances = result`.

    Attributes:
        frame: (H, W, 3) uint8, in the order of channels that the stream was asked for.
        instances: instances in pixels of `frame`.
        index: number of the frame in the source, from 0; numbers of dropped frames are left out.
        captured: when the frame was captured, seconds since the epoch.
        latency: seconds from capture to result.
        seconds: duration of preprocess, inference and postprocess.
    """

    frame: NDArray[np.uint8]
    instances: Instances
    index: int
    captured: float
    latency: float
    seconds: Tuple[float, ...]

    def __iter__(self) -> Iterator[Any]:
        """Return frame and instances."""
        return iter((self.frame, self.instances))


class Stream:
    """An iterator over results. It closes itself when it ends, fails or is no longer referenced.

    Capture, preprocess, inference and postprocess run in threads of their own, and in order. `close` or the end of a
    `with` block ends them at once.

    Attributes:
        source_rate: frames per second that a video file or camera states; None where it states none.
    """

    def __init__(
        self,
        source: Source,
        stages: Sequence[Stage],
        drops_oldest: bool,
        depth: int,
        on_error: Optional[OnError] = None,
    ) -> None:
        """Prepare the stream; its threads start with the first result that is asked for."""
        self.source_rate = source.rate
        self._pipeline = Pipeline(source, stages, depth, drops_oldest)
        self._meter = Meter()
        self._on_error = on_error or _log_error
        self._is_started = False
        self._close = weakref.finalize(self, self._pipeline.close)

    @property
    def report(self) -> StreamReport:
        """Rate, jitter, latency, dropped and failed frames so far."""
        return self._meter.report(self._pipeline.dropped)

    def __iter__(self) -> Stream:
        """Return the stream."""
        return self

    def __next__(self) -> StreamResult:
        """Return the next result.

        Raises:
            StopIteration: the source has ended, or the stream is closed.
            SourceError: a camera or URL was lost.
            ClosedError: the predictor was closed meanwhile.
        """
        if not self._close.alive:
            raise StopIteration
        try:
            if not self._is_started:
                self._is_started = True
                self._pipeline.start()
            return self._next_result()
        except BaseException:  # also Ctrl-C
            self.close()
            raise

    def close(self) -> None:
        """End the threads and release the source; can be repeated."""
        self._close()

    def __enter__(self) -> Stream:
        """Return the stream."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the stream."""
        self.close()

    def _next_result(self) -> StreamResult:
        while True:
            ticket: Ticket = next(self._pipeline.results)
            if ticket.error is not None:
                self._meter.failed += 1
                self._on_error(ticket.index, ticket.error)
                continue
            now = time.perf_counter()
            self._meter.count(ticket.started, now)
            return StreamResult(
                ticket.frame, ticket.value, ticket.index, ticket.captured, now - ticket.started, ticket.seconds
            )


def _log_error(index: int, error: BlendMaskError) -> None:
    _LOG.warning("Frame %d has no result: %s", index, error)
