"""Rewritten graphs compute in the stated arithmetic: integer sums give the integers that Q/DQ gives, up to rounding."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bench.lib.quantized_graphs import shipped_graph
from bench.lib.scenes import EVALUATION
from blendmask_edge import Instances, read_image
from blendmask_edge.bundle.manifest import InputSpec
from blendmask_edge.runtimes.tensorrt.half import half_remainder
from blendmask_quantize.export.parity import unoptimised_session
from blendmask_quantize.validation.as_written import AsWritten
from blendmask_quantize.validation.fidelity import compare_instances
from blendmask_quantize.validation.gpu_arithmetic import GRAPH_IN, emulated_half, integer_sums, rounded_to_half

SHAPE = (1, 3, 12, 12)
IMAGES = 4


def network() -> bytes:
    """Two INT8 convolutions with a ReLU between, the second added to its input, and a float convolution."""
    rng = np.random.default_rng(0)
    arrays = {
        "w1": rng.integers(-99, 99, (4, 3, 3, 3)).astype(np.int8),
        "w2": rng.integers(-99, 99, (4, 4, 1, 1)).astype(np.int8),
        "w3": rng.normal(0, 0.3, (2, 4, 1, 1)).astype(np.float32),
        "b": rng.normal(0, 0.1, 4).astype(np.float32),
        "sw": rng.uniform(0.001, 0.01, 4).astype(np.float32),
        "zw": np.zeros(4, np.int8),
        "s1": np.float32(0.02),
        "s2": np.float32(0.03),
        "s3": np.float32(0.05),
        "z": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s1", "z"], ["q1"]),
        helper.make_node("DequantizeLinear", ["q1", "s1", "z"], ["d1"]),
        helper.make_node("DequantizeLinear", ["w1", "sw", "zw"], ["v1"], axis=0),
        helper.make_node("Conv", ["d1", "v1", "b"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("QuantizeLinear", ["r1", "s2", "z"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "s2", "z"], ["d2"]),
        helper.make_node("DequantizeLinear", ["w2", "sw", "zw"], ["v2"], axis=0),
        helper.make_node("Conv", ["d2", "v2", "b"], ["c2"]),
        helper.make_node("Add", ["c2", "d2"], ["a2"]),
        helper.make_node("QuantizeLinear", ["a2", "s3", "z"], ["q3"]),
        helper.make_node("DequantizeLinear", ["q3", "s3", "z"], ["d3"]),
        helper.make_node("Conv", ["d3", "w3"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 12, 12])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def run(graph: bytes, *names: str) -> list[NDArray[np.generic]]:
    model = onnx.load_from_string(graph)
    known = {entry.name for entry in model.graph.output}
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return session.run(list(names), {"x": np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)})


@pytest.mark.parametrize("fold", [False, True])
def test_integer_sums_give_the_same_integers_up_to_ties(fold: bool) -> None:
    graph = network()
    for found, expected in zip(run(integer_sums(graph, fold), "q2", "q3"), run(graph, "q2", "q3"), strict=True):
        off = found.astype(int) - expected.astype(int)
        assert np.abs(off).max() <= 1
        assert (off != 0).mean() < 0.02
    (sums,) = run(integer_sums(graph, fold), "c2/sums")
    np.testing.assert_array_equal(sums, np.round(sums))


def test_only_a_relu_lies_within_a_folded_scale() -> None:
    nodes = {node.output[0]: node for node in onnx.load_from_string(integer_sums(network(), fold=True)).graph.node}
    assert nodes["q2"].input[1] == "c1/one"
    assert nodes["q3"].input[1] == "s3"


def test_half_stays_out_of_int8_kernels_unless_asked() -> None:
    def rounded(inside: bool) -> set[str]:
        nodes = onnx.load_from_string(rounded_to_half(network(), inside)).graph.node
        return {node.output[0].removesuffix("/rounded") for node in nodes if node.output[0].endswith("/rounded")}

    assert rounded(False) == set()
    assert rounded(True) >= {"c1", "r1", "c2", "a2", "d1"}


def test_values_are_what_half_holds() -> None:
    (d1,) = run(rounded_to_half(network(), inside_kernels=True), "d1")
    np.testing.assert_array_equal(d1, d1.astype(np.float16).astype(np.float32))


def test_emulated_half_rounds_what_is_half_and_nothing_else() -> None:
    changed = half_remainder(network())
    values = dict(zip(("y", "c2"), run(emulated_half(changed), "y", "c2"), strict=True))
    np.testing.assert_array_equal(values["y"], values["y"].astype(np.float16))
    assert (values["c2"] != values["c2"].astype(np.float16)).any()


@pytest.mark.parametrize("name", GRAPH_IN)
def test_every_row_is_a_valid_graph_of_the_same_interface(name: str) -> None:
    changed = GRAPH_IN[name](network())
    onnx.checker.check_model(onnx.load_from_string(changed), full_check=True)
    (found,), (expected,) = run(changed, "y"), run(network(), "y")
    assert np.abs(found.astype(np.float32) - expected).max() < 0.1 * np.abs(expected).max()


@pytest.fixture(scope="module")
def reference() -> tuple[SimpleNamespace, bytes, list[Instances]]:
    """What `AsWritten` needs to know of the shipped model, its `tensorrt` graph, and its instances in some images."""
    graph = shipped_graph()
    height, width = unoptimised_session(graph).get_inputs()[0].shape[1:3]
    spec = InputSpec(height=height, width=width, pad_value=(0, 0, 0))
    about = SimpleNamespace(input=spec, classes=["any"] * 80, category_ids=list(range(80)), score_threshold=0.2)
    written = AsWritten(about, graph)  # type: ignore[arg-type]
    return about, graph, [written(image) for image in images()]


def images() -> list[NDArray[np.uint8]]:
    """The first images of the demo."""
    return [read_image(path) for path in sorted(EVALUATION.glob("*.jpg"))[:IMAGES]]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GRAPH_IN if name != "reference"])
def test_the_shipped_model_finds_the_same_in_every_arithmetic(
    name: str, reference: tuple[SimpleNamespace, bytes, list[Instances]]
) -> None:
    about, graph, expected = reference
    other = AsWritten(about, GRAPH_IN[name](graph))  # type: ignore[arg-type]
    found = compare_instances(zip(expected, map(other, images()), strict=True))
    assert found.instances > 20
    assert found.missed + found.spurious <= 0.05 * found.instances
    assert found.mask_iou > 0.95
