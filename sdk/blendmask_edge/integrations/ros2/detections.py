"""Instances to `vision_msgs/Detection2DArray`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

import numpy as np

if TYPE_CHECKING:
    from blendmask_edge.instances import Instances
    from blendmask_edge.integrations.ros2.messages import MessageFactory


def detections_message(instances: Instances, header: Any, messages: MessageFactory) -> Any:
    """Return instances as `vision_msgs/Detection2DArray` of vision_msgs 4 (ROS 2 Humble and newer).

    Each detection has one hypothesis, whose `class_id` is the name of the class, and a box by its center and size in
    pixels of the image. `id` is the track id, empty for an instance without one.

    Args:
        instances: of one image, in its pixels.
        header: `std_msgs/Header` of the array and of each detection; that of the image.
        messages: factory of the messages.
    """
    detections = [
        messages.make(
            "vision_msgs/msg/Detection2D",
            header=header,
            results=[_hypothesis(name, score, messages)],
            bbox=_box(box, messages),
            id=track,
        )
        for name, score, box, track in zip(
            instances.class_names, instances.scores.tolist(), instances.boxes.tolist(), _track_names(instances)
        )
    ]
    return messages.make("vision_msgs/msg/Detection2DArray", header=header, detections=detections)


def _track_names(instances: Instances) -> List[str]:
    if instances.track_ids is None:
        return [""] * len(instances)
    return [str(number) if number >= 0 else "" for number in instances.track_ids.tolist()]


def _box(box: List[float], messages: MessageFactory) -> Any:
    x0, y0, x1, y1 = box
    position = messages.make("vision_msgs/msg/Point2D", x=(x0 + x1) / 2, y=(y0 + y1) / 2)
    center = messages.make("vision_msgs/msg/Pose2D", position=position, theta=0.0)
    return messages.make("vision_msgs/msg/BoundingBox2D", center=center, size_x=x1 - x0, size_y=y1 - y0)


def _hypothesis(name: str, score: float, messages: MessageFactory) -> Any:
    """Return class and score, with a pose that says nothing: a box in the image has none."""
    pose = messages.make(
        "geometry_msgs/msg/Pose",
        position=messages.make("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0),
        orientation=messages.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
    )
    return messages.make(
        "vision_msgs/msg/ObjectHypothesisWithPose",
        hypothesis=messages.make("vision_msgs/msg/ObjectHypothesis", class_id=name, score=score),
        pose=messages.make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36, np.float64)),
    )
