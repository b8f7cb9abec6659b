"""ROS 2: messages from and to arrays and instances, and a node. Only the node needs ROS."""

from __future__ import annotations

from blendmask_edge.integrations.ros2.detections import detections_message
from blendmask_edge.integrations.ros2.images import (
    id_image_from_message,
    id_image_message,
    image_from_message,
    image_message,
)
from blendmask_edge.integrations.ros2.messages import MessageFactory, RosMessages
from blendmask_edge.integrations.ros2.node import MaskNode, run
from blendmask_edge.integrations.ros2.parameters import PARAMETERS, NodeParameters
from blendmask_edge.integrations.ros2.rosbag import RosbagMessages

__all__ = [
    "PARAMETERS",
    "MaskNode",
    "MessageFactory",
    "NodeParameters",
    "RosMessages",
    "RosbagMessages",
    "detections_message",
    "id_image_from_message",
    "id_image_message",
    "image_from_message",
    "image_message",
    "run",
]
