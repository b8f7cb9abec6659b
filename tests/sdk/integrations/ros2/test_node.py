"""The node predicts what the stand-in of rclpy sends it, and tells what it cannot predict."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

import cv2
import numpy as np
import pytest

from blendmask_edge import DependencyError, MaskPredictor, sign_bundle
from blendmask_edge.integrations import ros2
from blendmask_edge.runtimes.shared import SharedSession

pytest.importorskip("onnxruntime")
pytest.importorskip("rosbags")

from tests.processes import wait_for
from tests.sdk.bundle.signing_keys import write_keys
from tests.sdk.integrations.ros2 import rclpy_stand_in as stand_in

WHITE = np.full((48, 64, 3), 255, np.uint8)


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> stand_in.Ros:
    return stand_in.install(monkeypatch)


class Robot:
    """A node of the stand-in that runs, and the camera in front of it."""

    def __init__(self, ros: stand_in.Ros, predictor: Any, **parameters: Any) -> None:
        values = {name: default for name, default, _ in ros2.PARAMETERS}
        self.node = ros.create_node("blendmask")
        self.ros = ros
        self.masks = ros2.MaskNode(
            self.node, predictor, ros2.NodeParameters.from_values({**values, "bundle": "m.bmz", **parameters})
        )

    def send(self, image: np.ndarray, seconds: float = 0, **changes: Any) -> None:
        message = ros2.image_message(image, header(seconds), ros2.RosMessages())
        for name, value in changes.items():
            setattr(message, name, value)
        self.node.subscription.callback(message)

    def topic(self, name: str) -> stand_in.Publisher:
        return self.node.publishers[name]

    def health(self) -> Any:
        self.node.timers[0][1]()
        (status,) = self.topic("/diagnostics").received[-1].status
        return status

    def warnings(self) -> List[str]:
        return [text for level, text in self.node.get_logger().lines if level == "warning"]


def header(seconds: float) -> Any:
    make = ros2.RosMessages().make
    return make(
        "std_msgs/msg/Header",
        stamp=make("builtin_interfaces/msg/Time", sec=int(seconds), nanosec=int(seconds % 1 * 1e9) + 7),
        frame_id="camera_optical",
    )


@pytest.fixture
def predictor(bundle_path: Path) -> Iterator[MaskPredictor]:
    with MaskPredictor(bundle_path, runtime="onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture
def start(ros: stand_in.Ros, predictor: MaskPredictor) -> Iterator[Callable[..., Robot]]:
    robots: List[Robot] = []

    def make(**parameters: Any) -> Robot:
        robots.append(Robot(ros, parameters.pop("predictor", predictor), **parameters))
        return robots[-1]

    yield make
    for robot in robots:
        robot.masks.close()


def test_results_have_the_header_of_their_image_and_agree(
    start: Callable[..., Robot], predictor: MaskPredictor
) -> None:
    robot = start()
    for number in (1, 2):
        robot.send(WHITE, number)
        robot.topic("~/overlay").wait(number)
    expected = predictor(WHITE)
    for number in (1, 2):
        outputs = [robot.topic(f"~/{name}").received[number - 1] for name in ("detections", "masks", "overlay")]
        for output in outputs:
            assert (output.header.stamp.sec, output.header.stamp.nanosec) == (number, 7)
            assert output.header.frame_id == "camera_optical"
        names = [one.results[0].hypothesis.class_id for one in outputs[0].detections]
        assert names == expected.class_names
        ids = ros2.id_image_from_message(outputs[1])
        assert set(np.unique(ids)) <= set(range(len(expected) + 1))
        assert ids.any()
        np.testing.assert_array_equal(ros2.image_from_message(outputs[2]), expected.draw(WHITE))


def test_quality_of_service_suits_sensors_and_any_subscriber(start: Callable[..., Robot]) -> None:
    robot = start()
    taken = robot.node.subscription.qos
    assert (taken.reliability, taken.history, taken.depth) == ("BEST_EFFORT", "KEEP_LAST", 1)
    assert {publisher.qos.reliability for publisher in robot.node.publishers.values()} == {"RELIABLE"}


def test_bad_frame_is_a_warning_and_the_node_goes_on(start: Callable[..., Robot]) -> None:
    robot = start()
    robot.send(WHITE, 3, encoding="bayer_rggb8")
    wait_for(lambda: len(robot.warnings()) == 1)
    assert "The frame of 3.000000007 has no result: The image message has encoding 'bayer_rggb8'" in robot.warnings()[0]
    status = robot.health()
    assert status.level == 1
    assert status.message.startswith("frames without result: 1; the last one: The image message has encoding")
    robot.send(WHITE, 4)
    assert robot.topic("~/detections").wait(1)[0].header.stamp.sec == 4
    wait_for(lambda: robot.masks.counts.published == 1)
    status = robot.health()
    assert status.level == 0
    assert status.message.endswith("frames per second")
    assert robot.masks.is_running


class Slow:
    """A predictor whose stream takes a frame only when the test lets it."""

    def __init__(self, predictor: MaskPredictor) -> None:
        self._predictor = predictor
        self.is_taken, self.gate = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def stream(self, source: Any, **options: Any) -> Any:
        def gated() -> Iterator[np.ndarray]:
            for frame in source:
                self.is_taken.set()
                self.gate.wait(30)
                yield frame

        return self._predictor.stream(gated(), **options)


def test_drops_are_counted_and_the_newest_frame_is_predicted(
    start: Callable[..., Robot], predictor: MaskPredictor
) -> None:
    slow = Slow(predictor)
    robot = start(predictor=slow)
    robot.send(WHITE, 0)
    assert slow.is_taken.wait(30)
    for number in range(1, 10):
        robot.send(WHITE, number)
    slow.gate.set()
    wait_for(lambda: robot.masks.counts.published + robot.masks.counts.dropped == 10)
    assert robot.topic("~/detections").received[-1].header.stamp.sec == 9
    counts = robot.masks.counts
    assert counts.received == counts.published + counts.dropped == 10
    assert counts.dropped >= 8
    values = {pair.key: pair.value for pair in robot.health().values}
    assert values["dropped"] == str(counts.dropped)
    assert values["received"] == "10"


def test_only_frames_that_are_used_are_decoded(start: Callable[..., Robot], monkeypatch: pytest.MonkeyPatch) -> None:
    run, decoded = SharedSession.run, []

    def slow(session: SharedSession, *arguments: Any) -> Any:
        time.sleep(0.02)
        return run(session, *arguments)

    def counted(message: Any) -> Any:
        decoded.append(message.header.stamp.sec)
        return ros2.image_from_message(message)

    monkeypatch.setattr(SharedSession, "run", slow)
    monkeypatch.setattr("blendmask_edge.integrations.ros2.inbox.image_from_message", counted)
    robot = start()
    for number in range(100):
        robot.send(WHITE, number)
        time.sleep(0.001)
    wait_for(lambda: robot.masks.counts.published + robot.masks.counts.dropped == 100)
    published = [array.header.stamp.sec for array in robot.topic("~/detections").received]
    assert published == decoded == sorted(published)
    assert published[-1] == 99
    assert 2 <= len(published) < 80


def test_rate_falls_to_zero_without_images(start: Callable[..., Robot]) -> None:
    robot = start()
    robot.send(WHITE)
    wait_for(lambda: robot.masks.counts.published == 1)
    values = {pair.key: pair.value for pair in robot.health().values}
    assert float(values["rate"]) > 0
    assert values["runtime"] == "onnxruntime"
    status = robot.health()
    assert (status.level, status.message, status.name) == (1, "no images on /image", "/blendmask: masks")
    assert {pair.key: pair.value for pair in status.values}["rate"] == "0.00"


def test_masks_and_overlays_are_made_for_subscribers_only(start: Callable[..., Robot]) -> None:
    robot = start()
    robot.topic("~/masks").subscribers = robot.topic("~/overlay").subscribers = 0
    robot.send(WHITE)
    wait_for(lambda: robot.masks.counts.published == 1)
    assert len(robot.topic("~/detections").received) == 1
    assert robot.topic("~/masks").received == robot.topic("~/overlay").received == []


def test_parameters_choose_topics_and_classes(start: Callable[..., Robot]) -> None:
    robot = start(overlay=False, compressed=True, classes=["green"])
    assert "~/overlay" not in robot.node.publishers
    data = cv2.imencode(".png", WHITE)[1].tobytes()
    messages = ros2.RosMessages()
    octets = messages.octets(np.frombuffer(data, np.uint8))
    robot.node.subscription.callback(
        messages.make("sensor_msgs/msg/CompressedImage", header=header(1), format="png", data=octets)
    )
    (found,) = robot.topic("~/detections").wait(1)
    assert [one.results[0].hypothesis.class_id for one in found.detections] == ["green"]


def test_identities_stay_and_start_anew_when_time_jumps_back(start: Callable[..., Robot]) -> None:
    pytest.importorskip("trackers")
    robot = start(track=True)
    for count, seconds in enumerate([1, 1.1, 1.2, 0.5], 1):
        robot.send(WHITE, seconds)
        robot.topic("~/detections").wait(count)
    ids = [[one.id for one in array.detections] for array in robot.topic("~/detections").received]
    assert ids[1] == ids[2] != ["", "", ""]
    assert ids[3] == ids[0] == ["", "", ""]


def test_tracking_that_is_not_installed_is_one_message(
    start: Callable[..., Robot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(DependencyError, match="Tracking needs"):
        start(track=True)


def test_run_predicts_until_ros_shuts_down(ros: stand_in.Ros, bundle_path: Path) -> None:
    ros.overrides = {"bundle": str(bundle_path), "runtime": "onnxruntime", "threads": 1, "score_threshold": 1}

    def on_spin(node: stand_in.Node) -> None:
        node.subscription.callback(ros2.image_message(WHITE, header(5), ros2.RosMessages()))
        node.publishers["~/detections"].wait(1)
        ros.shutdown()

    ros.on_spin = on_spin
    assert ros2.run(MaskPredictor, []) == 0
    assert ros.node.is_destroyed
    assert ros.node.publishers["~/detections"].received[0].header.stamp.sec == 5
    assert "onnxruntime, graph cpu" in ros.node.get_logger().lines[0][1]


def test_frame_that_is_ready_after_the_shutdown_is_no_error(start: Callable[..., Robot], ros: stand_in.Ros) -> None:
    robot = start()
    ros.shutdown()
    robot.send(WHITE)
    wait_for(lambda: not robot.masks.is_running)
    assert robot.masks.error is None


def test_ctrl_c_ends_it_quietly(ros: stand_in.Ros, bundle_path: Path) -> None:
    ros.overrides = {"bundle": str(bundle_path), "runtime": "onnxruntime"}

    def on_spin(_: stand_in.Node) -> None:
        raise KeyboardInterrupt

    ros.on_spin = on_spin
    assert ros2.run(MaskPredictor, []) == 0
    assert ros.node.is_destroyed


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({}, "The parameter bundle is empty"),
        ({"bundle": "/none/model.bmz"}, "/none/model.bmz"),
        ({"bundle": "m.bmz", "threads": 2.5}, "The parameter threads is 2.5, expected int"),
        ({"bundle": "m.bmz", "overlay": "on"}, "The parameter overlay is 'on', expected bool"),
        ({"bundle": "m.bmz", "classes": "mug"}, "The parameter classes is 'mug', expected list of str"),
        ({"score_threshold": 2.0}, "score_threshold is 2.0, expected a number from 0 to 1"),
        ({"classes": ["unicorn"]}, "unicorn"),
    ],
)
def test_wrong_parameters_are_one_fatal_message(
    ros: stand_in.Ros, bundle_path: Path, overrides: Any, message: str
) -> None:
    ros.overrides = overrides if not overrides or "bundle" in overrides else {"bundle": str(bundle_path), **overrides}
    assert ros2.run(MaskPredictor, []) == 1
    ((level, text),) = ros.node.get_logger().lines
    assert level == "fatal"
    assert message in text
    assert ros.node.is_destroyed


def test_bundle_without_the_required_signature_is_one_fatal_message(
    ros: stand_in.Ros, bundle_path: Path, tmp_path: Path
) -> None:
    pytest.importorskip("cryptography")
    private, public = write_keys(tmp_path, "maker")
    ros.overrides = {"bundle": str(bundle_path), "runtime": "onnxruntime", "public_key": str(public)}
    assert ros2.run(MaskPredictor, []) == 1
    ((level, text),) = ros.node.get_logger().lines
    assert level == "fatal"
    assert "is not signed, and a signature is required" in text
    sign_bundle(bundle_path, private, tmp_path / "signed.bmz")
    ros.overrides["bundle"] = str(tmp_path / "signed.bmz")
    ros.on_spin = lambda _: ros.shutdown()
    assert ros2.run(MaskPredictor, []) == 0


def test_error_that_ends_the_stream_is_told_and_ends_the_node(
    ros: stand_in.Ros, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ros.overrides = {"bundle": str(bundle_path), "runtime": "onnxruntime"}
    monkeypatch.setattr(stand_in.Publisher, "get_subscription_count", lambda _: 1 / 0)
    ros.on_spin = lambda node: node.subscription.callback(ros2.image_message(WHITE, header(1), ros2.RosMessages()))
    assert ros2.run(MaskPredictor, []) == 1
    assert "ZeroDivisionError" in ros.node.get_logger().lines[-1][1]
    (status,) = ros.node.publishers["/diagnostics"].received[-1].status
    assert status.level == 2
    assert "stopped: ZeroDivisionError" in status.message


def test_closing_ends_all_threads(ros: stand_in.Ros, predictor: MaskPredictor) -> None:
    before = threading.active_count()
    robot = Robot(ros, predictor)
    robot.send(WHITE)
    robot.topic("~/detections").wait(1)
    robot.masks.close()
    robot.masks.close()
    assert not robot.masks.is_running
    assert threading.active_count() == before


def test_old_vision_msgs_are_one_message(ros: stand_in.Ros, predictor: MaskPredictor) -> None:
    del ros
    del sys.modules["vision_msgs.msg"].Detection2DArray
    with pytest.raises(DependencyError, match=r"no message Detection2DArray. Use ROS 2 Humble or newer"):
        Robot(stand_in.Ros(), predictor)


def test_without_ros_it_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(DependencyError, match=r"The node needs ROS 2 .* source /opt/ros/humble/setup.bash"):
        ros2.run(MaskPredictor, [])
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", None)
    with pytest.raises(DependencyError, match=r"apt install ros-.ROS_DISTRO-vision-msgs"):
        ros2.RosMessages().make("vision_msgs/msg/Detection2DArray")
