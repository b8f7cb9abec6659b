"""Identities by the stamps of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from blendmask_edge.integrations.tracking import Tracker

if TYPE_CHECKING:
    from blendmask_edge.instances import Instances


class StampedTracker:
    """A tracker by the time of the camera, which forgets all identities when that time jumps back, as at the start of
    a bag that is played again."""

    def __init__(self, score_threshold: float) -> None:
        """Start without identities.

        Args:
            score_threshold: least score with which an identity starts, 0 to 1.

        Raises:
            DependencyError: the extra `track` is not installed.
        """
        self._tracker = Tracker(score_threshold)
        self._last: Optional[float] = None

    def update(self, instances: Instances, stamp: Any, captured: float) -> Instances:
        """Return the instances of the next frame with track ids.

        Args:
            instances: of one frame.
            stamp: `builtin_interfaces/Time` of the frame.
            captured: seconds of this machine's clock, for drivers that leave the stamp at 0.
        """
        seconds = (stamp.sec + 1e-9 * stamp.nanosec) or captured
        if self._last is not None and seconds < self._last:
            self._tracker.reset()
        self._last = seconds
        return self._tracker.update(instances, seconds)
