"""INT8 sums are exact on every processor, those that add products in 16 bits among them."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from blendmask_edge.hardware import cpu
from blendmask_edge.runtimes.registry import SessionOptions, select

onnx = pytest.importorskip("onnx")

SIDE, ROWS = 8, 4
SCALES = np.array([0.001, 0.002, 0.003, 0.004], np.float32)
STEP = np.float32(0.125)


def kernel() -> np.ndarray:
    """The largest weights side by side, so that 16 bits hold no two products with white pixels."""
    integers = np.full((ROWS, 3, 3, 3), 127, np.int8)
    integers[1, 1] = -127
    integers[2, :, 1] = 90
    integers[3, :, 0] = -128 + 1
    return integers


def build(kind: type, top: int) -> bytes:
    """One quantized convolution, whose middle pixel makes the scores."""
    helper, tensor = onnx.helper, onnx.TensorProto
    constants = {
        "step": np.array(1 / top, np.float32), "zero": np.array(0, kind), "integers": kernel(), "scales": SCALES,
        "zeros": np.zeros(ROWS, np.int8), "out_step": np.array(STEP),
        "out_zero": np.array(128 if top == 255 else 0, kind),
        "full": np.array(255, np.float32), "start": np.array([4, 4], np.int64), "end": np.array([5, 5], np.int64),
        "axes": np.array([2, 3], np.int64), "row": np.array([1, ROWS], np.int64),
        "box": np.zeros((1, ROWS, 4), np.float32), "class": np.zeros((1, ROWS), np.int32),
        "logits": np.zeros((1, ROWS, 4, 4), np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=tensor.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "full"], ["shares"]),
        helper.make_node("QuantizeLinear", ["shares", "step", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "step", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["integers", "scales", "zeros"], ["kernel"], axis=0),
        helper.make_node("Conv", ["rounded", "kernel"], ["sums"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["sums", "out_step", "out_zero"], ["sum_levels"]),
        helper.make_node("DequantizeLinear", ["sum_levels", "out_step", "out_zero"], ["features"]),
        helper.make_node("Slice", ["features", "start", "end", "axes"], ["middle"]),
        helper.make_node("Reshape", ["middle", "row"], ["scores"]),
        helper.make_node("Identity", ["box"], ["boxes"]),
        helper.make_node("Identity", ["class"], ["class_ids"]),
        helper.make_node("Identity", ["logits"], ["mask_logits"]),
    ]
    outputs = [
        helper.make_tensor_value_info("boxes", tensor.FLOAT, [1, ROWS, 4]),
        helper.make_tensor_value_info("scores", tensor.FLOAT, [1, ROWS]),
        helper.make_tensor_value_info("class_ids", tensor.INT32, [1, ROWS]),
        helper.make_tensor_value_info("mask_logits", tensor.FLOAT, [1, ROWS, 4, 4]),
    ]
    image = helper.make_tensor_value_info("image", tensor.UINT8, [1, SIDE, SIDE, 3])
    values = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "saturation", [image], outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("kind, top", [(np.uint8, 255), (np.int8, 127)], ids=["cpu", "tensorrt"])
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("level", [255, 200, 128])
def test_bright_pixels_and_large_weights_add_up(name: str, kind: type, top: int, level: int) -> None:
    row = select(name)
    if not row.installed:
        pytest.skip(f"{name} is not installed")
    session = row.load().load(build(kind, top), SessionOptions(threads=1))
    scores = session.run(np.full((1, SIDE, SIDE, 3), level, np.uint8)).scores[0]
    session.close()
    share = np.rint(level / 255 * top) / top
    expected = share * SCALES * kernel().astype(np.int64).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(scores, np.rint(expected / STEP) * STEP, atol=STEP)


@pytest.mark.parametrize("level", [30, 255])
def test_weights_that_share_a_zero_point_add_up_too(level: int) -> None:
    pytest.importorskip("onnxruntime")
    model = onnx.load_from_string(build(np.uint8, 255))
    nodes = {node.output[0]: node for node in model.graph.node}
    again = onnx.NodeProto()
    again.CopyFrom(nodes["kernel"])
    again.input[0], again.output[0] = "other_integers", "other_kernel"
    weight = onnx.numpy_helper.from_array(kernel(), "other_integers")
    model.graph.initializer.append(weight)
    tail = []
    for name in ("sums", "sum_levels", "features"):
        node = onnx.NodeProto()
        node.CopyFrom(nodes[name])
        node.input[0] = node.input[0] if name == "sums" else f"other_{node.input[0]}"
        node.output[0] = f"other_{name}"
        tail.append(node)
    tail[0].input[1] = "other_kernel"
    added = onnx.helper.make_node("Max", ["features", "other_features"], ["most"])
    nodes["middle"].input[0] = "most"
    place = next(index for index, node in enumerate(model.graph.node) if node.output[0] == "middle")
    for node in reversed([again, *tail, added]):
        model.graph.node.insert(place, node)
    onnx.checker.check_model(model)
    row = select("onnxruntime")
    session = row.load().load(model.SerializeToString(), SessionOptions(threads=1))
    scores = session.run(np.full((1, SIDE, SIDE, 3), level, np.uint8)).scores[0]
    session.close()
    expected = level / 255 * SCALES * kernel().astype(np.int64).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(scores, np.rint(expected / STEP) * STEP, atol=STEP)


@pytest.mark.parametrize("machine, flags, expected", [
    ("x86_64", "fpu avx avx2 fma", True), ("AMD64", "avx2 avx512f", True), ("x86_64", "avx2 avx_vnni", False),
    ("x86_64", "avx512f avx512_vnni", False), ("x86_64", "avx512f amx_int8", False), ("aarch64", "asimd", False),
    ("x86_64", None, True),
])  # fmt: skip
def test_processors_that_saturate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, flags: Optional[str], expected: bool
) -> None:
    file = tmp_path / "cpuinfo"
    if flags is not None:
        file.write_text(f"processor : 0\nmodel name : Any\nflags\t\t: {flags}\nbugs : none\n")
    monkeypatch.setattr(cpu, "_CPU_INFO", file)
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    cpu.saturates_int8.cache_clear()
    assert cpu.saturates_int8() is expected
    monkeypatch.undo()
    cpu.saturates_int8.cache_clear()


@pytest.mark.parametrize("saturates", [True, False])
def test_exact_kernels_are_asked_for_only_where_the_quick_ones_saturate(
    monkeypatch: pytest.MonkeyPatch, saturates: bool
) -> None:
    """On processors with VNNI both are exact, and those that are asked for take twice the time."""
    pytest.importorskip("onnxruntime")
    from blendmask_edge.runtimes import onnxruntime

    monkeypatch.setattr(onnxruntime, "saturates_int8", lambda: saturates)
    settings = onnxruntime.session_settings(SessionOptions(threads=1))
    if saturates:
        assert settings.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError, match="does not have"):
            settings.get_session_config_entry("session.x64quantprecision")
