"""Messages of the package rosbags, which reads and writes bags without ROS."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Dict

from blendmask_edge.errors import DependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_VISION_MSGS = {
    "Point2D": "float64 x\nfloat64 y",
    "Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "ObjectHypothesis": "string class_id\nfloat64 score",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose",
    "Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox2D bbox\n"
        "string id"
    ),
    "Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
}
"""Fields of vision_msgs 4 (ROS 2 Humble and newer), which rosbags does not know by itself."""


class RosbagMessages:
    """Messages of a type store of rosbags, to write results into a bag without ROS."""

    def __init__(self, store: Any) -> None:
        """Register vision_msgs where the store lacks it.

        Args:
            store: what `rosbags.typesys.get_typestore` returns.

        Raises:
            DependencyError: rosbags is not installed.
        """
        self._store = store
        try:
            typesys = importlib.import_module("rosbags.typesys")
        except ImportError as error:
            raise DependencyError(f"Bags need rosbags ({error}). Type: pip install rosbags") from error
        missing: Dict[str, Any] = {}
        for kind, text in _VISION_MSGS.items():
            if f"vision_msgs/msg/{kind}" not in store.types:
                missing.update(typesys.get_types_from_msg(text, f"vision_msgs/msg/{kind}"))
        store.register(missing)

    def make(self, name: str, /, **fields: Any) -> Any:
        """Return a message; see `MessageFactory`."""
        return self._store.types[name](**fields)

    def octets(self, data: NDArray[np.uint8]) -> Any:
        """Return the array as it is."""
        return data

    def octet(self, value: int) -> Any:
        """Return the number as it is."""
        return value
