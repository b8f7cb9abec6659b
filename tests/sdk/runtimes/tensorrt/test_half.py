"""What is not quantized gets half precision by casts; boxes, scores and rounding stay exactly as they are."""

from __future__ import annotations

from typing import Any, Callable, Dict

import numpy as np
import pytest

from blendmask_edge import BundleError
from blendmask_edge.bundle.graph_check import check_graph
from blendmask_edge.runtimes.base import SessionOptions
from blendmask_edge.runtimes.onnxruntime import load
from blendmask_edge.runtimes.tensorrt.half import half_remainder

onnx = pytest.importorskip("onnx")
FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
FAR = 1333.25
"""A coordinate that half cannot hold: it has a step of 1 there."""


def make(quantized: bool = True) -> bytes:
    """Return a network with an INT8 and a float convolution, boxes beyond 1024 pixels, overlaps, masks by products."""
    helper, tensor = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    arrays: Dict[str, np.ndarray] = {
        "w8": rng.integers(-99, 99, (4, 3, 1, 1)).astype(np.int8),
        "w": rng.normal(0, 0.1, (4, 3, 1, 1)).astype(np.float32),
        "w2": rng.normal(0, 0.3, (2, 4, 1, 1)).astype(np.float32),
        "scale": np.float32(0.01),
        "zero": np.int8(0),
        "far": np.full((1, 4, 4), FAR, np.float32),
        "axes": np.array([2, 3]),
        "one": np.array([1]),
        "class": np.array([[0, 1, 2, -1]], np.int32),
        "tall": rng.normal(0, 1, (1, 4, 56, 8)).astype(np.float32),
        "flat": np.array([1, 4, 8, -1]),
        "last": np.array([56]),
        "begin": np.array([0]),
        "third": np.array([3]),
    }
    weight = "wd" if quantized else "w"
    rounded = [
        helper.make_node("QuantizeLinear", ["unit", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w8", "scale", "zero"], ["wd"]),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=tensor.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Sigmoid", ["planes"], ["unit"]),
        *(rounded if quantized else []),
        helper.make_node("Conv", ["d" if quantized else "unit", weight], ["c"]),
        helper.make_node("Relu", ["c"], ["features"]),
        helper.make_node("ReduceMax", ["features"], ["peaks"], axes=[2, 3], keepdims=0),
        helper.make_node("Sigmoid", ["peaks"], ["scores"]),
        helper.make_node("Unsqueeze", ["peaks", "one"], ["rows"]),
        helper.make_node("Add", ["rows", "far"], ["boxes"]),
        helper.make_node("Mul", ["boxes", "boxes"], ["areas"]),
        helper.make_node("Greater", ["areas", "far"], ["overlap"]),
        helper.make_node("Cast", ["overlap"], ["kept"], to=tensor.FLOAT),
        helper.make_node("Conv", ["features", "w2"], ["bases"]),
        helper.make_node("Reshape", ["bases", "flat"], ["basis"]),
        helper.make_node("Slice", ["basis", "begin", "last", "third"], ["part"]),
        helper.make_node("MatMul", ["tall", "part"], ["blended"]),
        helper.make_node("MatMul", ["kept", "kept"], ["pairs"]),
        helper.make_node("ReduceMax", ["pairs"], ["most"], axes=[1, 2], keepdims=1),
        helper.make_node("Mul", ["blended", "most"], ["mask_logits"]),
        helper.make_node("Identity", ["class"], ["class_ids"]),
    ]
    outputs = [
        helper.make_tensor_value_info("boxes", FLOAT, [1, 4, 4]),
        helper.make_tensor_value_info("scores", FLOAT, [1, 4]),
        helper.make_tensor_value_info("class_ids", tensor.INT32, [1, 4]),
        helper.make_tensor_value_info("mask_logits", FLOAT, [1, 4, 56, 56]),
    ]
    inputs = [helper.make_tensor_value_info("image", tensor.UINT8, [1, 32, 56, 3])]
    weights = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


def types_of(graph: bytes) -> Dict[str, int]:
    """Return the element type of every tensor between, by strict inference."""
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    return {entry.name: entry.type.tensor_type.elem_type for entry in model.graph.value_info}


def counts(graph: bytes, *operators: str) -> Dict[str, int]:
    nodes = onnx.load_from_string(graph).graph.node
    return {name: sum(node.op_type == name for node in nodes) for name in operators}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 9, (1, 32, 56, 3)).astype(np.uint8)


def run(graph: bytes, image: np.ndarray) -> Any:
    return load(graph, SessionOptions(threads=1)).run(image)


@pytest.mark.parametrize("quantized", [True, False])
def test_boxes_and_scores_are_exact_and_masks_nearly_so(quantized: bool, image: np.ndarray) -> None:
    graph = make(quantized)
    before, after = run(graph, image), run(half_remainder(graph), image)
    np.testing.assert_array_equal(after.boxes, before.boxes)
    np.testing.assert_array_equal(after.scores, before.scores)
    scale = np.abs(before.mask_logits).max()
    assert 0 < np.abs(after.mask_logits - before.mask_logits).max() < 0.01 * scale
    assert before.boxes.max() > 1024
    assert float(np.float16(FAR)) != FAR


def test_precision_of_each_layer_is_the_intended_one() -> None:
    types = types_of(half_remainder(make()))
    for name in ("unit", "d", "wd", "c", "features", "peaks", "areas"):
        assert types[name] == FLOAT
        assert name in ("features",) or f"{name}/half" not in types
    for name in ("features", "w2", "bases", "basis", "part", "blended", "kept", "pairs", "most", "mask_logits"):
        assert types[f"{name}/half"] == FLOAT16


def test_rounding_weights_and_interface_are_untouched() -> None:
    graph = make()
    changed = half_remainder(graph)
    operators = ("QuantizeLinear", "DequantizeLinear", "Conv", "MatMul", "Relu", "Slice")
    assert counts(changed, *operators) == counts(graph, *operators)
    before, after = onnx.load_from_string(graph), onnx.load_from_string(changed)
    for part in ("initializer", "input", "output"):
        assert list(getattr(before.graph, part)) == list(getattr(after.graph, part))
    assert (before.opset_import, before.ir_version) == (after.opset_import, after.ir_version)
    check_graph(changed)


def test_convolution_that_predicts_boxes_stays_float_and_others_do_not() -> None:
    types = types_of(half_remainder(make(quantized=False)))
    assert types["bases/half"] == types["w2/half"] == FLOAT16
    assert types["c"] == types["areas"] == FLOAT
    assert "c/half" not in types
    assert "w/half" not in types


def test_each_tensor_is_cast_once() -> None:
    nodes = onnx.load_from_string(half_remainder(make())).graph.node
    casts = [(node.input[0], node.attribute[0].i) for node in nodes if node.op_type == "Cast"]
    assert len(casts) == len(set(casts))


def test_graph_without_float_layers_stays(tiny_graph: bytes) -> None:
    assert counts(half_remainder(tiny_graph), "ReduceMean", "Div") == counts(tiny_graph, "ReduceMean", "Div")


def test_what_is_no_graph_is_refused() -> None:
    call: Callable[[bytes], bytes] = half_remainder
    with pytest.raises(BundleError):
        call(b"no graph")
