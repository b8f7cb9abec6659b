"""The programs of docs/ros2.md run as printed, and its table has the parameters of the node."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from blendmask_edge.bundle import write_bundle
from blendmask_edge.integrations.ros2 import PARAMETERS, RosbagMessages, image_message
from tests.sdk.small_bundles import build_graph, describe

PAGE = (Path(__file__).parents[2] / "docs/ros2.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_bag_of_images_becomes_a_bag_of_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    rosbag2, typesys = pytest.importorskip("rosbags.rosbag2"), pytest.importorskip("rosbags.typesys")
    monkeypatch.chdir(tmp_path)
    graphs = {"cpu": build_graph()}
    write_bundle(tmp_path / "model.bmz", describe(graphs), graphs)
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    messages = RosbagMessages(store)
    kind = "sensor_msgs/msg/Image"
    with rosbag2.Writer(tmp_path / "drive", version=9) as writer:
        connection = writer.add_connection("/camera", kind, typestore=store)
        for number in range(2):
            stamp = messages.make("builtin_interfaces/msg/Time", sec=number, nanosec=0)
            header = messages.make("std_msgs/msg/Header", stamp=stamp, frame_id="camera")
            image = image_message(np.full((48, 64, 3), 230, np.uint8), header, messages)
            writer.write(connection, number, store.serialize_cdr(image, kind))
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/ros2.md", "exec"), names)
    assert re.search(r"^red  [1-9]\d+ pixels$", capsys.readouterr().out, re.MULTILINE)
    with rosbag2.Reader(tmp_path / "masks") as reader:
        assert {one.topic: one.msgcount for one in reader.connections} == {"/camera/detections": 2, "/camera/masks": 2}


def test_table_has_each_parameter_with_its_default_and_description() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (.+) \|$", PAGE, re.MULTILINE)
    assert [(name, json.loads(default), text) for name, default, text in rows] == [tuple(one) for one in PARAMETERS]
