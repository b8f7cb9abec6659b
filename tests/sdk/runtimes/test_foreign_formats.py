"""A runtime reads a graph as ONNX or not at all: its own formats have been checked by nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from blendmask_edge import InferenceError
from blendmask_edge.runtimes.registry import SessionOptions, select

onnx = pytest.importorskip("onnx")


def load(runtime: str, graph: bytes) -> None:
    select(runtime).load().load(graph, SessionOptions(1)).close()


def without_weights() -> bytes:
    """Return a graph that needs no tensor of its own, so that it lies in one file in every format."""
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["image"], [name], to=kind)
        for name, kind in [
            ("boxes", kinds.FLOAT), ("scores", kinds.FLOAT), ("class_ids", kinds.INT32), ("mask_logits", kinds.FLOAT)
        ]
    ]  # fmt: skip
    image = helper.make_tensor_value_info("image", kinds.UINT8, [1, 8, 8, 3])
    outputs = [helper.make_tensor_value_info(node.output[0], node.attribute[0].i, [1, 8, 8, 3]) for node in nodes]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    return bytes(model.SerializeToString())


def test_onnx_runtime_does_not_take_its_own_format(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "graph.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(without_weights(), options, providers=["CPUExecutionProvider"])
    foreign = (tmp_path / "graph.ort").read_bytes()
    ort.InferenceSession(foreign, providers=["CPUExecutionProvider"])
    load("onnxruntime", without_weights())
    with pytest.raises(InferenceError, match="refuses the graph"):
        load("onnxruntime", foreign)


def test_openvino_does_not_take_its_own_format(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    (tmp_path / "graph.onnx").write_bytes(without_weights())
    openvino.save_model(openvino.Core().read_model(tmp_path / "graph.onnx"), tmp_path / "graph.xml")
    load("openvino", without_weights())
    with pytest.raises(InferenceError, match="refuses the graph"):
        load("openvino", (tmp_path / "graph.xml").read_bytes())
