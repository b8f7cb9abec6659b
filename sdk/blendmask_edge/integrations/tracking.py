"""Identities of instances from frame to frame, by ByteTrack of the package `trackers`.

ByteTrack (Zhang et al., ECCV 2022) predicts each box by a Kalman filter and matches boxes by IoU: first those that
score high, then the rest, so that an instance keeps its identity while it is partly hidden.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from blendmask_edge.arguments.values import check_number
from blendmask_edge.errors import DependencyError, InstancesError, install_command

if TYPE_CHECKING:
    from blendmask_edge.instances import Instances

UNTRACKED = -1
"""Track id of an instance that has no identity yet."""
_LIBRARY_RATE = 30.0
"""Frames per second in which the library counts how long a lost track is remembered."""
_PYTHON = (3, 10)


class Tracker:
    """Give instances of consecutive frames the same track id. Each camera needs a tracker of its own.

    An identity starts with the second frame that shows an instance; until then its track id is -1.

    Example:
        >>> from blendmask_edge import MaskPredictor, Tracker, read_image  # doctest: +SKIP
        >>> tracker = Tracker()  # doctest: +SKIP
        >>> with MaskPredictor("model.bmz") as predictor:  # doctest: +SKIP
        ...     for _ in range(3):
        ...         instances = tracker.update(predictor(read_image("image.jpg")))
        >>> instances.track_ids  # doctest: +SKIP
        array([0, 1, 2])
    """

    def __init__(
        self, score_threshold: float = 0.5, lost_seconds: float = 1.0, rate: float = 30.0, iou_threshold: float = 0.1
    ) -> None:
        """Start without identities.

        Args:
            score_threshold: least score with which an identity starts, 0 to 1; instances that score less only
                continue one.
            lost_seconds: how long an identity is remembered while nothing shows it, 0 to 3600.
            rate: frames per second where `update` is not told the time, 0.1 to 1000.
            iou_threshold: least IoU of a box with the one predicted for an identity, 0 to 1.

        Raises:
            DependencyError: the package `trackers` is not installed, or this Python is older than 3.10.
            ConfigError: an argument is out of range.
        """
        check_number("score_threshold", score_threshold, 0, 1)
        check_number("lost_seconds", lost_seconds, 0, 3600)
        check_number("rate", rate, 0.1, 1000)
        check_number("iou_threshold", iou_threshold, 0, 1)
        self._supervision, trackers = _import("supervision"), _import("trackers")
        self._tracker: Any = trackers.ByteTrackTracker(
            lost_track_buffer=round(lost_seconds * _LIBRARY_RATE),
            frame_rate=float(rate),
            track_activation_threshold=float(score_threshold),
            high_conf_det_threshold=float(score_threshold),
            minimum_iou_threshold=float(iou_threshold),
            minimum_consecutive_frames=1,
        )

    def update(self, instances: Instances, seconds: Optional[float] = None) -> Instances:
        """Return the instances of the next frame with track ids.

        Args:
            instances: of one frame; frames come in the order of time.
            seconds: time of the frame by any clock; None counts frames at `rate`. Give the time where frames are
                dropped or come at uneven intervals.

        Raises:
            InstancesError: `instances` is something else.
            ConfigError: `seconds` is not a finite number.
        """
        if not hasattr(instances, "with_tracks"):
            raise InstancesError(f"instances is a {type(instances).__name__}, expected Instances of a predictor.")
        if seconds is not None:
            check_number("seconds", seconds, -1e12, 1e12)
        detections = self._supervision.Detections(
            xyxy=instances.boxes.astype(np.float64),
            confidence=instances.scores,
            class_id=instances.class_ids,
            data={"row": np.arange(len(instances))},
        )
        tracked = self._tracker.update(detections, timestamp=seconds)
        track_ids = np.full(len(instances), UNTRACKED, np.int64)
        if len(tracked):
            track_ids[tracked.data["row"]] = tracked.tracker_id
        return instances.with_tracks(track_ids)

    def reset(self) -> None:
        """Forget all identities; numbers start again from 0."""
        self._tracker.reset()


def _import(name: str) -> Any:
    if sys.version_info < _PYTHON:
        wanted, here = (".".join(map(str, version)) for version in (_PYTHON, sys.version_info[:3]))
        raise DependencyError(
            f"Tracking needs Python {wanted} or newer, because the package trackers does; this is {here}. "
            "Predict without it, and track the boxes with a library of your choice."
        )
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(f"Tracking needs {name} ({error}). Type: {install_command('track')}") from error
