"""The state of the node as `diagnostic_msgs/DiagnosticArray`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Tuple

if TYPE_CHECKING:
    from blendmask_edge.integrations.ros2.messages import MessageFactory

_OK, _WARN, _ERROR = 0, 1, 2


@dataclass(frozen=True)
class Counts:
    """Frames since the node started.

    received: messages that arrived.
    published: frames whose results were published.
    dropped: frames that gave way to newer ones.
    failed: frames that could not be read or predicted.
    """

    received: int = 0
    published: int = 0
    dropped: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Health:
    """The content of one diagnostic message.

    name: of the node.
    topic: from which images are expected.
    runtime: that runs the network.
    before, now: counts at the last message and at this one.
    seconds: between the two.
    latency: median of the seconds from capture to result.
    last_failure: reason of the last frame that failed; empty for none.
    stopped: why the node predicts no longer; empty while it does.
    """

    name: str
    topic: str
    runtime: str
    before: Counts
    now: Counts
    seconds: float
    latency: float
    last_failure: str = ""
    stopped: str = ""

    @property
    def rate(self) -> float:
        """Results per second since the last message."""
        return (self.now.published - self.before.published) / self.seconds if self.seconds > 0 else 0.0

    @property
    def summary(self) -> Tuple[int, str]:
        """Level and sentence."""
        if self.stopped:
            return _ERROR, f"stopped: {self.stopped}"
        failed = self.now.failed - self.before.failed
        if failed:
            return _WARN, f"frames without result: {failed}; the last one: {self.last_failure}"
        if self.now.received == self.before.received:
            return _WARN, f"no images on {self.topic}"
        return _OK, f"{self.rate:.1f} frames per second"


def diagnostics_message(health: Health, stamp: Any, messages: MessageFactory) -> Any:
    """Return the state as `diagnostic_msgs/DiagnosticArray` with one status.

    Args:
        health: state of the node.
        stamp: `builtin_interfaces/Time` of the message.
        messages: factory of the messages.
    """
    level, summary = health.summary
    values = {
        "rate": f"{health.rate:.2f}",
        "received": health.now.received,
        "published": health.now.published,
        "dropped": health.now.dropped,
        "failed": health.now.failed,
        "latency_ms": f"{1000 * health.latency:.1f}",
        "runtime": health.runtime,
    }
    status = messages.make(
        "diagnostic_msgs/msg/DiagnosticStatus",
        level=messages.octet(level),
        name=f"{health.name}: masks",
        message=summary,
        hardware_id="",
        values=[
            messages.make("diagnostic_msgs/msg/KeyValue", key=key, value=str(value)) for key, value in values.items()
        ],
    )
    header = messages.make("std_msgs/msg/Header", stamp=stamp, frame_id="")
    return messages.make("diagnostic_msgs/msg/DiagnosticArray", header=header, status=[status])
