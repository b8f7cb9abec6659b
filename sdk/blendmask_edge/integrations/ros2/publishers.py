"""The topics of the node, and their quality of service."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Callable

from blendmask_edge.integrations.ros2.detections import detections_message
from blendmask_edge.integrations.ros2.diagnostics import Health, diagnostics_message
from blendmask_edge.integrations.ros2.images import id_image_message, image_message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.instances import Instances
    from blendmask_edge.integrations.ros2.messages import RosMessages

INPUT = "image"
_DETECTIONS, _MASKS, _OVERLAY, _DIAGNOSTICS = "~/detections", "~/masks", "~/overlay", "/diagnostics"


class Publishers:
    """Publishers of a node. Masks and overlays are made only while somebody subscribes to them."""

    def __init__(self, node: Any, messages: RosMessages, has_overlay: bool) -> None:
        """Create the publishers, reliable ones, to which reliable and best-effort subscribers connect.

        Args:
            node: `rclpy.node.Node`.
            messages: factory of the messages.
            has_overlay: whether there is a topic of overlays.

        Raises:
            DependencyError: a package of messages is not installed.
        """
        self._node, self._messages = node, messages

        def create(name: str, topic: str) -> Any:
            return node.create_publisher(messages.message_class(name), topic, _qos("RELIABLE"))

        self._detections = create("vision_msgs/msg/Detection2DArray", _DETECTIONS)
        self._masks = create("sensor_msgs/msg/Image", _MASKS)
        self._overlay = create("sensor_msgs/msg/Image", _OVERLAY) if has_overlay else None
        self._diagnostics = create("diagnostic_msgs/msg/DiagnosticArray", _DIAGNOSTICS)

    def publish(self, frame: NDArray[np.uint8], instances: Instances, header: Any) -> None:
        """Publish the results of a frame, all with the header of its image.

        Args:
            frame: (H, W, 3) uint8 RGB.
            instances: of the frame.
            header: `std_msgs/Header` of the image message.
        """
        self._detections.publish(detections_message(instances, header, self._messages))
        if self._masks.get_subscription_count():
            self._masks.publish(id_image_message(instances, header, self._messages))
        if self._overlay is not None and self._overlay.get_subscription_count():
            self._overlay.publish(image_message(instances.draw(frame), header, self._messages))

    def publish_health(self, health: Health) -> None:
        """Publish the state of the node."""
        stamp = self._node.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostics_message(health, stamp, self._messages))


def subscribe(node: Any, messages: RosMessages, is_compressed: bool, callback: Callable[[Any], None]) -> Any:
    """Subscribe to images as sensors send them: best effort, the newest one only."""
    name = "sensor_msgs/msg/CompressedImage" if is_compressed else "sensor_msgs/msg/Image"
    return node.create_subscription(messages.message_class(name), INPUT, callback, _qos("BEST_EFFORT"))


def _qos(reliability: str) -> Any:
    qos = importlib.import_module("rclpy.qos")
    return qos.QoSProfile(
        history=qos.HistoryPolicy.KEEP_LAST, depth=1, reliability=getattr(qos.ReliabilityPolicy, reliability)
    )
