"""The node in an installed ROS 2: an image goes over a topic, and results come back over others."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from blendmask_edge import MaskPredictor
from blendmask_edge.integrations import ros2

pytest.importorskip("onnxruntime")
rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; test_node.py uses a stand-in")
pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")

TOPICS = {
    "detections": "vision_msgs/msg/Detection2DArray",
    "masks": "sensor_msgs/msg/Image",
    "overlay": "sensor_msgs/msg/Image",
}


def test_results_of_an_image_come_back_over_topics(bundle_path: Path) -> None:
    from rclpy.executors import SingleThreadedExecutor

    messages, received = ros2.RosMessages(), {}
    image = np.full((48, 64, 3), 255, np.uint8)
    rclpy.init(args=[])
    node, camera = rclpy.create_node("blendmask"), rclpy.create_node("camera")
    executor = SingleThreadedExecutor()
    try:
        parameters = ros2.NodeParameters(bundle=str(bundle_path), threads=1)
        with MaskPredictor(bundle_path, runtime="onnxruntime", threads=1) as predictor, ros2.MaskNode(
            node, predictor, parameters
        ):
            publisher = camera.create_publisher(messages.message_class("sensor_msgs/msg/Image"), "image", 1)
            for name, kind in TOPICS.items():
                store = _store(received, name)
                camera.create_subscription(messages.message_class(kind), f"/blendmask/{name}", store, 1)
            for one in (node, camera):
                executor.add_node(one)
            end = time.monotonic() + 30
            while len(received) < len(TOPICS) and time.monotonic() < end:
                stamp = messages.make("builtin_interfaces/msg/Time", sec=5, nanosec=7)
                header = messages.make("std_msgs/msg/Header", stamp=stamp, frame_id="optical")
                publisher.publish(ros2.image_message(image, header, messages))
                executor.spin_once(timeout_sec=0.1)
    finally:
        for one in (node, camera):
            one.destroy_node()
        rclpy.try_shutdown()
    assert set(received) == set(TOPICS)
    assert {(one.header.stamp.sec, one.header.frame_id) for one in received.values()} == {(5, "optical")}
    assert len(received["detections"].detections) == 3
    assert ros2.id_image_from_message(received["masks"]).any()


def _store(received: Dict[str, Any], name: str) -> Any:
    return lambda message: received.__setitem__(name, message)
