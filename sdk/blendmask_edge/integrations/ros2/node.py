"""The node: images in, detections, masks, overlays and diagnostics out."""

from __future__ import annotations

import importlib
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence

from blendmask_edge.errors import BlendMaskError, DependencyError, InferenceError
from blendmask_edge.integrations.ros2.diagnostics import Counts, Health
from blendmask_edge.integrations.ros2.inbox import Inbox
from blendmask_edge.integrations.ros2.messages import RosMessages
from blendmask_edge.integrations.ros2.parameters import PARAMETERS, NodeParameters
from blendmask_edge.integrations.ros2.publishers import Publishers, subscribe
from blendmask_edge.integrations.ros2.tracks import StampedTracker

if TYPE_CHECKING:
    from blendmask_edge.streaming.stream import StreamResult

_DIAGNOSTICS_SECONDS = 1.0
_WARNING_SECONDS = 1.0
_SPIN_SECONDS = 0.5
_PATIENCE = 5.0
"""Seconds that closing waits for the frame that is being published."""


class MaskNode:
    """Predict the images of a topic with the stream of a predictor, in threads of their own.

    A frame that cannot be read or predicted gives a warning, and the next one is predicted. Messages that wait give way
    to newer ones before they are decoded. Results have the header of their image.
    """

    def __init__(self, node: Any, predictor: Any, parameters: NodeParameters) -> None:
        """Subscribe and start; `close` or the end of a `with` block ends it.

        Args:
            node: `rclpy.node.Node`, which the caller spins and destroys.
            predictor: an open `MaskPredictor`.
            parameters: which topics there are, and what is published.

        Raises:
            ConfigError: a class is unknown.
            DependencyError: a package of messages, or that of tracking, is not installed.
        """
        self.error: Optional[BlendMaskError] = None
        self._node, self._predictor = node, predictor
        self._last_failure = ""
        self._published, self._failed_to_publish = 0, 0
        self._before, self._measured = Counts(), time.monotonic()
        self._tracker = _tracker_for(predictor) if parameters.track else None
        self._inbox = Inbox()
        # The inbox drops messages; what it gives has been decoded, and is used.
        self._stream = predictor.stream(
            self._inbox, drop="never", classes=parameters.classes, on_error=self._fail_frame
        )
        predictor.warm_up()
        messages = RosMessages()
        self._publishers = Publishers(node, messages, parameters.overlay)
        self._worker = threading.Thread(target=self._work, name="blendmask publish", daemon=True)
        self._worker.start()
        self._timer = node.create_timer(_DIAGNOSTICS_SECONDS, self.publish_diagnostics)
        self._subscription = subscribe(node, messages, parameters.compressed, self._inbox.put)

    @property
    def is_running(self) -> bool:
        """Whether images are still predicted."""
        return self._worker.is_alive()

    @property
    def counts(self) -> Counts:
        """Frames since the start."""
        report = self._stream.report
        return Counts(
            received=self._inbox.received,
            published=self._published,
            dropped=self._inbox.dropped,
            failed=report.failed + self._failed_to_publish,
        )

    def publish_diagnostics(self) -> None:
        """Publish rate and losses since the last call, as a timer does each second."""
        now, counts = time.monotonic(), self.counts
        self._publishers.publish_health(
            Health(
                name=self._node.get_fully_qualified_name(),
                topic=self._subscription.topic_name,
                runtime=self._predictor.runtime,
                before=self._before,
                now=counts,
                seconds=now - self._measured,
                latency=self._stream.report.latency,
                last_failure=self._last_failure,
                stopped="" if self.error is None else str(self.error),
            )
        )
        self._before, self._measured = counts, now

    def close(self) -> None:
        """End the threads; can be repeated."""
        self._inbox.close()
        self._stream.close()
        self._worker.join(_PATIENCE)

    def __enter__(self) -> MaskNode:
        """Return the node."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the node."""
        self.close()

    def _work(self) -> None:
        try:
            for result in self._stream:
                self._publish(result)
        except Exception as error:  # whatever a runtime raises ends the node, which says so
            if self._node.context.ok():  # publishing fails while ROS shuts down
                self.error = _as_blendmask_error(error)

    def _publish(self, result: StreamResult) -> None:
        header = self._inbox.take_header(result.index)
        try:
            instances = result.instances
            if self._tracker is not None:
                instances = self._tracker.update(instances, header.stamp, result.captured)
            self._publishers.publish(result.frame, instances, header)
        except BlendMaskError as error:
            self._failed_to_publish += 1
            self._warn(header, error)
        else:
            self._published += 1

    def _fail_frame(self, index: int, error: BlendMaskError) -> None:
        self._warn(self._inbox.take_header(index), error)

    def _warn(self, header: Any, error: BlendMaskError) -> None:
        self._last_failure = str(error)
        stamp = f"{header.stamp.sec}.{header.stamp.nanosec:09d}"
        self._node.get_logger().warning(
            f"The frame of {stamp} has no result: {error}", throttle_duration_sec=_WARNING_SECONDS
        )


def read_parameters(node: Any) -> NodeParameters:
    """Declare the parameters of the node and return their values, which are fixed from then on.

    Args:
        node: `rclpy.node.Node`.

    Raises:
        ConfigError: the bundle is missing, or a value has another type.
    """
    descriptor = importlib.import_module("rcl_interfaces.msg").ParameterDescriptor
    values = {}
    for name, default, description in PARAMETERS:
        # Of any type, so that 1 passes for 1.0 and a wrong one is refused in one message.
        described = descriptor(description=description, read_only=True, dynamic_typing=True)
        values[name] = node.declare_parameter(name, default, described).value
    return NodeParameters.from_values(values)


def run(open_predictor: Callable[..., Any], arguments: Optional[Sequence[str]] = None) -> int:
    """Run the node until it is interrupted or fails.

    Args:
        open_predictor: the class `MaskPredictor`.
        arguments: of the command line; None takes those of the process.

    Returns:
        Exit code: 0 after Ctrl-C or a shutdown of ROS, 1 after an error, which is logged.

    Raises:
        DependencyError: rclpy is not installed or not sourced.
    """
    rclpy = _import_rclpy()
    rclpy.init(args=arguments)
    node = rclpy.create_node("blendmask")
    try:
        _serve(rclpy, node, open_predictor)
    except (KeyboardInterrupt, importlib.import_module("rclpy.executors").ExternalShutdownException):
        return 0
    except BlendMaskError as error:
        node.get_logger().fatal(str(error))
        return 1
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _serve(rclpy: Any, node: Any, open_predictor: Callable[..., Any]) -> None:
    parameters = read_parameters(node)
    executor = importlib.import_module("rclpy.executors").SingleThreadedExecutor()
    with open_predictor(**parameters.predictor_arguments) as predictor, MaskNode(node, predictor, parameters) as masks:
        node.get_logger().info(f"{parameters.bundle} runs in {predictor.runtime}, graph {predictor.variant}")
        executor.add_node(node)
        while rclpy.ok() and masks.is_running:
            executor.spin_once(timeout_sec=_SPIN_SECONDS)
        if masks.error is not None:
            masks.publish_diagnostics()  # tells the reason
            raise masks.error


def _as_blendmask_error(error: Exception) -> BlendMaskError:
    if isinstance(error, BlendMaskError):
        return error
    return InferenceError(f"{type(error).__name__}: {error}. Try another runtime, and report it.")


def _tracker_for(predictor: Any) -> StampedTracker:
    return StampedTracker(max(predictor.score_threshold, predictor.manifest.display_threshold))


def _import_rclpy() -> Any:
    try:
        return importlib.import_module("rclpy")
    except ImportError as error:
        raise DependencyError(
            f"The node needs ROS 2 ({error}). Source it, as in source /opt/ros/humble/setup.bash, and use its Python."
        ) from error
