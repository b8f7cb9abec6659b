"""Messages of ROS 2 hold the images and instances that they were made of, through real CDR."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any, Tuple

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendmask_edge import DependencyError, ImageError, Instances, Labels
from blendmask_edge.integrations.id_image import from_id_image, to_id_image
from blendmask_edge.integrations.ros2 import (
    RosbagMessages,
    detections_message,
    id_image_from_message,
    id_image_message,
    image_from_message,
    image_message,
)

typesys = pytest.importorskip("rosbags.typesys")
STORE = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
MESSAGES = RosbagMessages(STORE)
TIME = STORE.types["builtin_interfaces/msg/Time"]
HEADER = STORE.types["std_msgs/msg/Header"](stamp=TIME(sec=12, nanosec=345), frame_id="camera_optical")
LABELS = Labels(["mug", "bowl"], [47, 51])
FORMS = {
    "rgb8": lambda rgb: rgb,
    "bgr8": lambda rgb: rgb[..., ::-1],
    "rgba8": lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)]),
    "bgra8": lambda rgb: np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 7, np.uint8)]),
    "mono8": lambda rgb: rgb[..., :1],
}


def through_cdr(message: Any) -> Any:
    return STORE.deserialize_cdr(STORE.serialize_cdr(message, message.__msgtype__), message.__msgtype__)


def make_image(rows: np.ndarray, encoding: str, width: int, is_bigendian: int = 0, /, **changes: Any) -> Any:
    fields = {
        "header": HEADER, "height": rows.shape[0], "width": width, "encoding": encoding,
        "is_bigendian": is_bigendian, "step": rows.shape[1], "data": rows.reshape(-1),
    }  # fmt: skip
    return through_cdr(MESSAGES.make("sensor_msgs/msg/Image", **{**fields, **changes}))


def make_compressed(kind: str, data: bytes) -> Any:
    return through_cdr(
        MESSAGES.make("sensor_msgs/msg/CompressedImage", header=HEADER, format=kind, data=np.frombuffer(data, np.uint8))
    )


def colors(height: int = 4, width: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def instances_of(count: int = 2, track_ids: Any = None) -> Instances:
    masks = np.zeros((count, 20, 30), np.bool_)
    for row in range(count):
        masks[row, row : row + 8, 2 * row : 2 * row + 9] = True
    scores = np.linspace(0.9, 0.4, count).astype(np.float32)
    tracks = None if track_ids is None else np.array(track_ids)
    return Instances.from_masks(masks, scores, np.arange(count) % 2, LABELS, track_ids=tracks)


@given(
    encoding=st.sampled_from(sorted(FORMS)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    padding=st.integers(0, 5),
    is_bigendian=st.integers(0, 1),
    seed=st.integers(0, 99),
)
def test_image_of_each_encoding_is_rgb(
    encoding: str, size: Tuple[int, int], padding: int, is_bigendian: int, seed: int
) -> None:
    rgb = colors(*size, seed)
    if encoding == "mono8":
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    rows = np.pad(FORMS[encoding](rgb).reshape(size[0], -1), ((0, 0), (0, padding)), constant_values=99)
    image = image_from_message(make_image(rows, encoding, size[1], is_bigendian))
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, rgb)


@pytest.mark.parametrize("encoding", ["yuv422", "bayer_rggb8", "16UC1", "mono16", "32FC1", "8UC3", ""])
def test_other_encodings_are_refused_by_name(encoding: str) -> None:
    with pytest.raises(ImageError, match=f"encoding '{encoding}', expected rgb8"):
        image_from_message(make_image(np.zeros((2, 12), np.uint8), encoding, 4))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"step": 11}, "step of 11 bytes, expected at least 12"),
        ({"step": 0}, "step of 0 bytes"),
        ({"height": 3}, "24 bytes of data, expected 36"),
        ({"data": np.zeros(0, np.uint8)}, "0 bytes of data"),
        ({"width": 0}, "0 x 2 pixels"),
        ({"height": 0}, "4 x 0 pixels"),
        ({"height": 2**32 - 1}, "pixels, expected sides"),
    ],
)
def test_image_that_contradicts_itself_is_refused(changes: Any, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        image_from_message(make_image(np.zeros((2, 12), np.uint8), "rgb8", 4, **changes))


@pytest.mark.parametrize("kind", ["png", "bgr8; png compressed bgr8"])
def test_png_is_the_same_image(kind: str) -> None:
    rgb = colors()
    data = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(image_from_message(make_compressed(kind, data)), rgb)


def test_jpeg_is_nearly_the_same_image() -> None:
    rgb = np.full((16, 24, 3), (200, 40, 90), np.uint8)
    data = cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes()
    image = image_from_message(make_compressed("rgb8; jpeg compressed bgr8", data))
    assert np.abs(image.astype(int) - rgb).max() < 6


def test_orientation_is_not_applied_because_the_calibration_knows_stored_pixels() -> None:
    pillow = pytest.importorskip("PIL.Image")
    exif, data = pillow.Exif(), io.BytesIO()
    exif[0x0112] = 6
    pillow.new("RGB", (64, 32)).save(data, "JPEG", exif=exif)
    assert image_from_message(make_compressed("jpeg", data.getvalue())).shape == (32, 64, 3)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"not an image at all"])
def test_damaged_data_is_one_error(data: bytes) -> None:
    with pytest.raises(ImageError, match="The image message"):
        image_from_message(make_compressed("jpeg", data))


@pytest.mark.parametrize("kind", ["16UC1; compressedDepth png", "16UC1; png compressed ", "32FC1; compressedDepth"])
def test_depth_is_not_taken_for_a_gray_image(kind: str) -> None:
    data = cv2.imencode(".png", np.ones((4, 4), np.uint16))[1].tobytes()
    with pytest.raises(ImageError, match="which is depth"):
        image_from_message(make_compressed(kind, data))


@pytest.mark.parametrize("rgb", [colors(), colors()[::4], colors()[1:3, 2:5], colors()[:, ::-1]])
def test_image_comes_back_whatever_its_memory(rgb: np.ndarray) -> None:
    message = through_cdr(image_message(rgb, HEADER, MESSAGES))
    assert message.step == 3 * rgb.shape[1]
    assert message.header == HEADER
    np.testing.assert_array_equal(image_from_message(message), rgb)


@given(count=st.integers(0, 7))
def test_pixels_of_the_masks_are_places_of_the_detections_plus_1(count: int) -> None:
    instances = instances_of(count)
    masks = through_cdr(id_image_message(instances, HEADER, MESSAGES))
    detections = through_cdr(detections_message(instances, HEADER, MESSAGES)).detections
    assert masks.encoding == "16UC1"
    assert masks.header == HEADER
    ids = id_image_from_message(masks)
    np.testing.assert_array_equal(ids, to_id_image(instances))
    assert len(detections) == count
    classes = [LABELS.names.index(one.results[0].hypothesis.class_id) for one in detections]
    scores = np.array([one.results[0].hypothesis.score for one in detections], np.float32)
    back = from_id_image(ids, np.array(classes, np.int64), LABELS, scores)
    np.testing.assert_array_equal(back.class_ids, instances.class_ids)
    np.testing.assert_array_equal(back.scores, instances.scores)


def test_masks_of_a_big_endian_machine_are_read() -> None:
    ids = np.array([[0, 1, 700], [2, 300, 65535]], np.uint16)
    rows = np.pad(ids.astype(">u2").view(np.uint8), ((0, 0), (0, 4)))
    np.testing.assert_array_equal(id_image_from_message(make_image(rows, "16UC1", 3, 1)), ids)
    with pytest.raises(ImageError, match="encoding 'rgb8', expected 16UC1"):
        id_image_from_message(make_image(rows, "rgb8", 3))


def test_detections_have_box_class_score_and_track() -> None:
    instances = instances_of(2, track_ids=[5, -1])
    array = through_cdr(detections_message(instances, HEADER, MESSAGES))
    assert array.header == HEADER
    assert [one.header for one in array.detections] == [HEADER] * 2
    assert [one.id for one in array.detections] == ["5", ""]
    assert [one.results[0].hypothesis.class_id for one in array.detections] == instances.class_names
    boxes = [
        [
            one.bbox.center.position.x - one.bbox.size_x / 2,
            one.bbox.center.position.y - one.bbox.size_y / 2,
            one.bbox.center.position.x + one.bbox.size_x / 2,
            one.bbox.center.position.y + one.bbox.size_y / 2,
        ]
        for one in array.detections
    ]
    np.testing.assert_allclose(boxes, instances.boxes)
    assert [one.bbox.center.theta for one in array.detections] == [0.0, 0.0]


def test_detections_without_tracking_have_no_id() -> None:
    assert [one.id for one in detections_message(instances_of(2), HEADER, MESSAGES).detections] == ["", ""]


def test_results_are_written_into_a_bag_that_others_read(tmp_path: Path) -> None:
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    instances = instances_of(2)
    outputs = {
        "/masks": id_image_message(instances, HEADER, MESSAGES),
        "/detections": detections_message(instances, HEADER, MESSAGES),
    }
    with rosbag2.Writer(tmp_path / "bag", version=9) as writer:
        for topic, message in outputs.items():
            kind = message.__msgtype__
            writer.write(writer.add_connection(topic, kind, typestore=STORE), 1, STORE.serialize_cdr(message, kind))
    fresh = typesys.get_typestore(typesys.Stores.EMPTY)
    read = {}
    with rosbag2.Reader(tmp_path / "bag") as reader:
        for connection, _, data in reader.messages():
            fresh.register(typesys.get_types_from_msg(connection.msgdef.data, connection.msgtype))
            read[connection.topic] = fresh.deserialize_cdr(data, connection.msgtype)
    np.testing.assert_array_equal(id_image_from_message(read["/masks"]), to_id_image(instances))
    names = [one.results[0].hypothesis.class_id for one in read["/detections"].detections]
    assert names == instances.class_names


def test_bags_without_the_package_are_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rosbags.typesys", None)
    with pytest.raises(DependencyError, match="pip install rosbags"):
        RosbagMessages(STORE)
