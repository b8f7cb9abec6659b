"""Rate, jitter and losses of a stream."""

from __future__ import annotations

from collections import deque
from typing import Deque, NamedTuple

WINDOW = 100
"""Results over which rate, jitter and latency are taken."""


class StreamReport(NamedTuple):
    """Numbers of a stream so far.

    Rate, jitter and latency are those of the last 100 results, as the loop receives them; 0 before the second one.

    Attributes:
        frames: results that the loop has received.
        dropped: frames that gave way to newer ones.
        failed: frames that gave an error.
        rate: results per second.
        jitter: standard deviation of the seconds between two results.
        latency: median of the seconds from capture to result.
    """

    frames: int
    dropped: int
    failed: int
    rate: float
    jitter: float
    latency: float

    def __str__(self) -> str:
        """Return one line for a log."""
        return (
            f"{self.frames} frames, {self.rate:.1f} per second, jitter {1000 * self.jitter:.1f} ms, "
            f"latency {1000 * self.latency:.0f} ms, {self.dropped} dropped, {self.failed} failed"
        )


class Meter:
    """Times of the last results."""

    def __init__(self) -> None:
        """Start with none."""
        self.frames = 0
        self.failed = 0
        self._received: Deque[float] = deque(maxlen=WINDOW + 1)
        self._latencies: Deque[float] = deque(maxlen=WINDOW)

    def count(self, captured: float, received: float) -> None:
        """Count a result.

        Args:
            captured, received: seconds of one clock.
        """
        self.frames += 1
        self._received.append(received)
        self._latencies.append(received - captured)

    def report(self, dropped: int) -> StreamReport:
        """Return the numbers so far."""
        import statistics

        times = list(self._received)
        intervals = [later - earlier for earlier, later in zip(times, times[1:])]
        elapsed = sum(intervals)
        return StreamReport(
            self.frames,
            dropped,
            self.failed,
            len(intervals) / elapsed if elapsed > 0 else 0.0,
            statistics.pstdev(intervals) if intervals else 0.0,
            statistics.median(self._latencies) if self._latencies else 0.0,
        )
