"""Messages of ROS 2 by name, from the classes that rclpy uses."""

from __future__ import annotations

import array
import importlib
from typing import TYPE_CHECKING, Any, Dict, Protocol

from blendmask_edge.errors import DependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class MessageFactory(Protocol):
    """Makes messages of one library; libraries differ in their classes and in how a field holds bytes."""

    def make(self, name: str, /, **fields: Any) -> Any:
        """Return a message.

        Args:
            name: type of the message, such as "sensor_msgs/msg/Image".
            fields: all fields of it.
        """

    def octets(self, data: NDArray[np.uint8]) -> Any:
        """Return an array as the value of a field `uint8[]`."""

    def octet(self, value: int) -> Any:
        """Return a number as the value of a field `byte`."""


class RosMessages:
    """Messages of an installed ROS 2, which rclpy publishes."""

    def __init__(self) -> None:
        """Start without classes; each is imported on first use."""
        self._classes: Dict[str, Any] = {}

    def message_class(self, name: str) -> Any:
        """Return the class of a message.

        Raises:
            DependencyError: its package is not installed or not sourced, or older than ROS 2 Humble.
        """
        if name not in self._classes:
            package, _, kind = name.partition("/msg/")
            self._classes[name] = _import_class(package, kind)
        return self._classes[name]

    def make(self, name: str, /, **fields: Any) -> Any:
        """Return a message; see `MessageFactory`.

        Raises:
            DependencyError: see `message_class`.
        """
        message = self.message_class(name)()
        for field, value in fields.items():  # the constructor would copy long arrays
            setattr(message, field, value)
        return message

    def octets(self, data: NDArray[np.uint8]) -> Any:
        """Return an array of the standard library, the only type that rclpy takes without a check of each byte."""
        values = array.array("B")
        values.frombytes(data.data)
        return values

    def octet(self, value: int) -> Any:
        """Return one byte."""
        return bytes([value])


def _import_class(package: str, kind: str) -> Any:
    try:
        return getattr(importlib.import_module(f"{package}.msg"), kind)
    except ImportError as error:
        raise DependencyError(
            f"The messages of {package} are not installed ({error}). Source ROS 2, as in "
            f"source /opt/ros/humble/setup.bash, or type: apt install ros-$ROS_DISTRO-{package.replace('_', '-')}"
        ) from error
    except AttributeError as error:
        raise DependencyError(
            f"The installed {package} has no message {kind}. Use ROS 2 Humble or newer (vision_msgs 4)."
        ) from error
