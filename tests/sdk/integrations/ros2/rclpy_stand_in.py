"""A stand-in of rclpy and of its message classes, for machines without ROS 2.

Message classes come from the definitions of rosbags, and their fields take what those of rclpy take: `array.array` for
`uint8[]`, one byte for `byte`, Python's own numbers. What is published is serialized, as a real publisher does it, and
goes to no network. Calls and keyword arguments are those of rclpy in ROS 2 Humble to Kilted; others fail.
"""

from __future__ import annotations

import array
import sys
import threading
import types
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore

from blendmask_edge.integrations.ros2 import RosbagMessages

STORE = get_typestore(Stores.ROS2_HUMBLE)
RosbagMessages(STORE)
_PYTHON = {"string": str, "bool": bool, "float64": float, "float32": float}
_PACKAGES = ("builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "rcl_interfaces", "sensor_msgs", "std_msgs")


def _default(kind: Any) -> Any:
    node, detail = kind
    if node == Nodetype.NAME:
        return message_class(detail)()
    if node == Nodetype.BASE:
        return b"\0" if detail[0] == "byte" else _PYTHON.get(detail[0], int)()
    (inner, inner_detail), length = detail
    if node == Nodetype.ARRAY:
        return np.zeros(length, inner_detail[0])
    return array.array("B") if inner == Nodetype.BASE and inner_detail[0] == "uint8" else []


def _is_valid(kind: Any, value: Any) -> bool:
    node, detail = kind
    if node == Nodetype.NAME:
        return isinstance(value, message_class(detail))
    if node == Nodetype.BASE:
        if detail[0] == "byte":
            return type(value) is bytes and len(value) == 1
        return type(value) is _PYTHON.get(detail[0], int)
    (inner, inner_detail), length = detail
    if node == Nodetype.ARRAY:
        return isinstance(value, np.ndarray) and value.shape == (length,) and value.dtype == inner_detail[0]
    if inner == Nodetype.BASE and inner_detail[0] == "uint8":
        return isinstance(value, array.array) and value.typecode == "B"
    return isinstance(value, list) and all(_is_valid((inner, inner_detail), item) for item in value)


class Message:
    """Base of the message classes."""

    msgtype: str
    kinds: Dict[str, Any]

    def __init__(self, **fields: Any) -> None:
        for name, kind in self.kinds.items():
            setattr(self, name, fields.pop(name, None) or _default(kind))
        assert not fields, f"{self.msgtype} has no {sorted(fields)}"

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in self.kinds, f"{self.msgtype} has no field {name}"
        assert _is_valid(self.kinds[name], value), f"{self.msgtype}.{name} takes no {value!r:.80}"
        object.__setattr__(self, name, value)


_CLASSES: Dict[str, type] = {}


def message_class(name: str) -> Any:
    if name not in _CLASSES:
        kinds = dict(STORE.fielddefs[name][1])
        _CLASSES[name] = type(name.split("/")[-1], (Message,), {"msgtype": name, "kinds": kinds})
    return _CLASSES[name]


def to_rosbag(value: Any) -> Any:
    """Return a message as that of rosbags."""
    if isinstance(value, Message):
        fields = {name: to_rosbag(getattr(value, name)) for name in value.kinds}
        return STORE.types[value.msgtype](**fields)
    if isinstance(value, list):
        return [to_rosbag(item) for item in value]
    if isinstance(value, array.array):
        return np.frombuffer(value, np.uint8) if len(value) else np.zeros(0, np.uint8)
    return value[0] if isinstance(value, bytes) else value


class Publisher:
    """Collects what another process would receive."""

    def __init__(self, node: Node, kind: Any, topic: str, qos: Any) -> None:
        self.kind, self.topic, self.qos = kind, topic, qos
        self.subscribers = 1
        self.received: List[Any] = []
        self._node = node
        self._changed = threading.Condition()

    def get_subscription_count(self) -> int:
        return self.subscribers

    def publish(self, message: Any) -> None:
        assert self._node.context.ok(), "the context is shut down"
        assert type(message) is self.kind
        data = STORE.serialize_cdr(to_rosbag(message), self.kind.msgtype)
        with self._changed:
            self.received.append(STORE.deserialize_cdr(data, self.kind.msgtype))
            self._changed.notify_all()

    def wait(self, count: int) -> List[Any]:
        """Return what was received, as soon as it is as many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.received) >= count, 30), self.received
            return self.received


class Logger:
    def __init__(self) -> None:
        self.lines: List[Tuple[str, str]] = []

    def info(self, text: str) -> None:
        self.lines.append(("info", text))

    def warning(self, text: str, *, throttle_duration_sec: Optional[float] = None) -> None:
        assert throttle_duration_sec is None or throttle_duration_sec > 0
        self.lines.append(("warning", text))

    def fatal(self, text: str) -> None:
        self.lines.append(("fatal", text))


class Context:
    def __init__(self) -> None:
        self.is_valid = True

    def ok(self) -> bool:
        return self.is_valid


class Node:
    """A node whose parameters and subscriptions the test sets and feeds."""

    def __init__(self, name: str, overrides: Dict[str, Any]) -> None:
        self.context = Context()
        self.publishers: Dict[str, Publisher] = {}
        self.timers: List[Tuple[float, Callable[[], None]]] = []
        self.parameters: Dict[str, Any] = {}
        self.subscription: Any = None
        self.is_destroyed = False
        self._name, self._overrides, self._logger = name, overrides, Logger()

    def get_fully_qualified_name(self) -> str:
        return f"/{self._name}"

    def get_logger(self) -> Logger:
        return self._logger

    def get_clock(self) -> Any:
        stamp = message_class("builtin_interfaces/msg/Time")(sec=1, nanosec=2)
        return types.SimpleNamespace(now=lambda: types.SimpleNamespace(to_msg=lambda: stamp))

    def declare_parameter(self, name: str, default: Any, descriptor: Any) -> Any:
        assert default != [], "rclpy takes an empty list for one of bytes"
        assert isinstance(descriptor, message_class("rcl_interfaces/msg/ParameterDescriptor"))
        self.parameters[name] = self._overrides.get(name, default)
        return types.SimpleNamespace(value=self.parameters[name])

    def create_publisher(self, kind: Any, topic: str, qos: Any) -> Publisher:
        self.publishers[topic] = Publisher(self, kind, topic, qos)
        return self.publishers[topic]

    def create_subscription(self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any) -> Any:
        name = f"/{topic}" if topic[0] not in "/~" else topic
        self.subscription = types.SimpleNamespace(kind=kind, topic_name=name, callback=callback, qos=qos)
        return self.subscription

    def create_timer(self, seconds: float, callback: Callable[[], None]) -> Any:
        self.timers.append((seconds, callback))
        return self.timers[-1]

    def destroy_node(self) -> None:
        self.is_destroyed = True


class Ros:
    """The module rclpy, and what the test says to it.

    overrides: parameters of the node.
    on_spin: called by each `spin_once`, with the node.
    """

    def __init__(self) -> None:
        self.overrides: Dict[str, Any] = {}
        self.on_spin: Callable[[Node], None] = lambda _: None
        self.node = Node("none", {})

    def init(self, args: Any) -> None:
        assert args is None or isinstance(args, list)

    def create_node(self, name: str) -> Node:
        self.node = Node(name, self.overrides)
        return self.node

    def shutdown(self) -> None:
        self.node.context.is_valid = False


def install(monkeypatch: pytest.MonkeyPatch) -> Ros:
    """Put the modules where `import` finds them."""
    ros = Ros()

    class ExternalShutdownException(Exception):
        pass

    class Executor:
        def add_node(self, node: Node) -> None:
            assert node is ros.node

        def spin_once(self, timeout_sec: float) -> None:
            assert timeout_sec > 0
            if not ros.node.context.ok():
                raise ExternalShutdownException
            ros.on_spin(ros.node)

    class QoSProfile:
        def __init__(self, *, history: str, depth: int, reliability: str) -> None:
            self.history, self.depth, self.reliability = history, depth, reliability

    def module(name: str, **names: Any) -> None:
        made = types.ModuleType(name)
        vars(made).update(names)
        monkeypatch.setitem(sys.modules, name, made)

    module(
        "rclpy",
        init=ros.init,
        create_node=ros.create_node,
        ok=lambda: ros.node.context.ok(),
        try_shutdown=ros.shutdown,
    )
    module("rclpy.executors", SingleThreadedExecutor=Executor, ExternalShutdownException=ExternalShutdownException)
    policies = {"HistoryPolicy": ("KEEP_LAST", "KEEP_ALL"), "ReliabilityPolicy": ("RELIABLE", "BEST_EFFORT")}
    enums = {name: types.SimpleNamespace(**{word: word for word in words}) for name, words in policies.items()}
    module("rclpy.qos", QoSProfile=QoSProfile, **enums)
    for package in (*_PACKAGES, "vision_msgs"):
        module(package)
        module(f"{package}.msg", **dict(_classes_of(package)))
    return ros


def _classes_of(package: str) -> Iterator[Tuple[str, Any]]:
    for name in STORE.fielddefs:
        if name.startswith(f"{package}/msg/"):
            yield name.split("/")[-1], message_class(name)
