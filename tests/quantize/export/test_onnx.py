"""The exported files keep the contract, and the rules of the runtimes that each variant is for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import fx

from blendmask_edge.bundle.graph_check import check_graph
from blendmask_edge.bundle.operators.rules import RULES
from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, THRESHOLD_NAME
from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.quantization.nodes import kind
from blendmask_quantize.quantization.placement import place
from tests.quantize.export.conftest import Export, calibrated
from tests.quantize.small_networks import ASSEMBLER, DEEPLAB, DLA, FIVE_LEVELS, LITE, WEIGHTED_SUM
from tests.quantize.tiny import TINY

CASES = [(TINY, "float"), (TINY, "cpu"), (TINY, "tensorrt")]
LITE_CPU = pytest.param((LITE, "cpu"), marks=pytest.mark.slow)
LITE_TENSORRT = pytest.param((LITE, "tensorrt"), marks=pytest.mark.slow)
DEEPLAB_CPU = pytest.param((DEEPLAB, "cpu"), marks=pytest.mark.slow)
BLENDERS = [pytest.param((config, "float"), marks=pytest.mark.slow) for config in (WEIGHTED_SUM, ASSEMBLER)]
FIVE = [pytest.param((FIVE_LEVELS, variant), marks=pytest.mark.slow) for variant in ("cpu", "tensorrt")]
JOINED = [pytest.param((DLA, variant), marks=pytest.mark.slow) for variant in ("cpu", "tensorrt")]
FORBIDDEN = {
    "NonMaxSuppression", "RoiAlign", "NonZero", "Loop", "If", "Scan", "Compress", "Unique", "ScatterND", "DeformConv",
    "QLinearConv", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "RandomUniform",
}  # fmt: skip
LARGEST_TOPK = 3840


@pytest.fixture(
    params=[*CASES, LITE_CPU, LITE_TENSORRT, DEEPLAB_CPU, *BLENDERS, *FIVE, *JOINED],
    ids=lambda case: f"{case[0].name}-{case[1]}",
)
def case(request: pytest.FixtureRequest) -> tuple[ModelConfig, str]:
    return request.param


@pytest.fixture
def model(case: tuple[ModelConfig, str], export: Export) -> onnx.ModelProto:
    return export(*case).model


def constants(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def of_type(model: onnx.ModelProto, *kinds: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type in kinds]


def signature(values: list[onnx.ValueInfoProto]) -> dict[str, tuple[int, list[int]]]:
    tensors = {value.name: value.type.tensor_type for value in values}
    return {name: (t.elem_type, [dim.dim_value for dim in t.shape.dim]) for name, t in tensors.items()}


def test_names_types_and_shapes_are_the_contracts(model: onnx.ModelProto, case: tuple[ModelConfig, str]) -> None:
    config = case[0]
    image, threshold = signature(model.graph.input).items()
    assert threshold == (THRESHOLD_NAME, (TensorProto.FLOAT, [1]))
    assert image[0] == INPUT_NAME
    assert image[1][0] == TensorProto.UINT8
    assert image[1][1][0] == 1
    assert image[1][1][3] == 3
    outputs = signature(model.graph.output)
    rows, side = outputs["scores"][1][1], config.resolution
    assert tuple(outputs) == OUTPUT_NAMES
    assert list(outputs.values()) == [
        (TensorProto.FLOAT, [1, rows, 4]),
        (TensorProto.FLOAT, [1, rows]),
        (TensorProto.INT32, [1, rows]),
        (TensorProto.FLOAT, [1, rows, side, side]),
    ]


def test_one_opset_that_the_oldest_runtimes_read_and_nothing_outside_the_file(model: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert not model.functions
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in model.graph.initializer)
    onnx.checker.check_model(model, full_check=True)


def test_bundles_take_the_graph_and_only_what_it_is_made_of(model: onnx.ModelProto) -> None:
    check_graph(model.SerializeToString())
    assert {node.op_type for node in model.graph.node} <= RULES.keys()


def test_plain_operators_of_fixed_shape_only(model: onnx.ModelProto, case: tuple[ModelConfig, str]) -> None:
    """On the CPU, what follows the best locations has as many rows as score enough; all before is fixed."""
    assert not {node.op_type for node in model.graph.node} & FORBIDDEN
    assert not of_type(model, "Constant")
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = signature(inferred.graph.value_info)
    produced = {name for node in model.graph.node for name in node.output if name} - set(OUTPUT_NAMES)
    fixed = produced if case[1] != "cpu" else produced & ancestors(model, of_type(model, "TopK")[0].output)
    assert fixed <= set(shapes)
    assert not [name for name in fixed if 0 in shapes[name][1]]


def ancestors(model: onnx.ModelProto, names: Iterable[str]) -> set[str]:
    """The tensors that others are computed from, and these."""
    makers = {output: node for node in model.graph.node for output in node.output}
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name in makers and name not in found:
            found.add(name)
            waiting += makers[name].input
    return found


def test_padding_is_part_of_the_convolutions(model: onnx.ModelProto) -> None:
    assert not of_type(model, "Pad")


def test_top_k_asks_for_no_more_than_tensorrt_sorts(model: onnx.ModelProto, case: tuple[ModelConfig, str]) -> None:
    """On the CPU, the last one sorts as many rows as there are detections."""
    values, sorts = constants(model), of_type(model, "TopK")
    counts = [int(values[node.input[1]].item()) for node in sorts if node.input[1] in values]
    assert (len(sorts), len(counts)) == (3, 2 if case[1] == "cpu" else 3)
    assert max(counts) <= LARGEST_TOPK


def test_places_of_the_best_pairs_are_never_computed_in_floats(model: onnx.ModelProto) -> None:
    """TensorRT may compute floats in half, which beyond 2048 lacks every other whole number."""
    typed = signature(onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info)
    places = {node.output[1] for node in of_type(model, "TopK")}
    for node in model.graph.node:
        if places.intersection(node.input):
            assert node.op_type != "Cast" or node.attribute[0].i != TensorProto.FLOAT
            places |= {name for name in node.output if name in typed and typed[name][0] == TensorProto.INT64}
    assert len(places) > 3


def test_the_file_says_nothing_of_the_machine_it_was_made_on(model: onnx.ModelProto) -> None:
    assert not model.doc_string
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert not re.search(rb"\.py\b|/site-packages|/home/|/root/", model.SerializeToString())


def weight_inputs(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The DequantizeLinear nodes of int8 weights, in graph order."""
    values = constants(model)
    return [
        n for n in of_type(model, "DequantizeLinear") if n.input[0] in values and values[n.input[0]].dtype == np.int8
    ]


def activation_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return of_type(model, "QuantizeLinear")


@pytest.fixture(params=[(TINY, "tensorrt"), LITE_TENSORRT, FIVE[1], JOINED[1]], ids=lambda case: case[0].name)
def tensorrt(request: pytest.FixtureRequest, export: Export) -> onnx.ModelProto:
    return export(*request.param).model


@pytest.fixture(params=[(TINY, "cpu"), LITE_CPU, DEEPLAB_CPU, FIVE[0], JOINED[0]], ids=lambda case: case[0].name)
def cpu(request: pytest.FixtureRequest, export: Export) -> tuple[ModelConfig, onnx.ModelProto]:
    return request.param[0], export(*request.param).model


def test_tensorrt_is_symmetric_int8_with_explicit_zero_points(tensorrt: onnx.ModelProto) -> None:
    values = constants(tensorrt)
    nodes = of_type(tensorrt, "QuantizeLinear", "DequantizeLinear")
    assert len(nodes) > 100
    for node in nodes:
        assert len(node.input) == 3, "some parsers insist on the zero point"
        zero_point, scale = values[node.input[2]], values[node.input[1]]
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
        assert scale.dtype == np.float32
        assert np.all(scale > 0)
        assert zero_point.shape == scale.shape


def test_tensorrt_weights_are_per_output_channel_and_activations_per_tensor(tensorrt: onnx.ModelProto) -> None:
    values, weights = constants(tensorrt), weight_inputs(tensorrt)
    assert len(weights) >= 30
    for node in weights:
        integers, scale = values[node.input[0]], values[node.input[1]]
        assert scale.shape == integers.shape[:1]
        assert [a.i for a in node.attribute if a.name == "axis"] == [0]
        assert np.abs(integers.astype(int)).max() <= 127
    assert all(values[node.input[1]].ndim == 0 for node in activation_nodes(tensorrt))


def test_tensorrt_biases_are_float(tensorrt: onnx.ModelProto) -> None:
    values = constants(tensorrt)
    for node in of_type(tensorrt, "Conv"):
        if len(node.input) == 3:
            assert values[node.input[2]].dtype == np.float32


@pytest.mark.parametrize("config, most", [(TINY, 297), (LITE, 273)], ids=lambda value: getattr(value, "name", ""))
@pytest.mark.slow
def test_tensorrt_has_few_layers_beside_convolutions(config: ModelConfig, most: int, export: Export) -> None:
    """Each is a launch of its own on a small GPU; raise a limit only for something that is worth it."""
    nodes = export(config, "tensorrt").model.graph.node
    others = [n.op_type for n in nodes if n.op_type not in ("Conv", "QuantizeLinear", "DequantizeLinear")]
    assert len(others) <= most, Counter(others)


def test_weights_have_zero_points_of_their_own(cpu: tuple[ModelConfig, onnx.ModelProto]) -> None:
    """ONNX Runtime's exact kernels on x86 without VNNI refuse weights that share one."""
    zero_points = [node.input[2] for node in weight_inputs(cpu[1]) if len(node.input) > 2]
    assert len(zero_points) >= 30
    assert len(set(zero_points)) == len(zero_points)
    settings = ort.SessionOptions()
    settings.add_session_config_entry("session.x64quantprecision", "1")
    ort.InferenceSession(cpu[1].SerializeToString(), settings, providers=["CPUExecutionProvider"])


def test_equal_shapes_and_scales_are_stored_once(model: onnx.ModelProto) -> None:
    own = {node.input[2] for node in weight_inputs(model) if len(node.input) > 2}
    small = [array for name, array in constants(model).items() if array.size <= 64 and name not in own]
    different = {(array.dtype.str, array.shape, array.tobytes()) for array in small}
    assert len(small) == len(different)


def test_tensorrt_casts_the_image_before_it_moves_it(tensorrt: onnx.ModelProto) -> None:
    assert [node.op_type for node in tensorrt.graph.node if INPUT_NAME in node.input] == ["Cast"]


def test_cpu_activations_are_uint8_and_biases_int32(cpu: tuple[ModelConfig, onnx.ModelProto]) -> None:
    _, model = cpu
    values = constants(model)
    zero_points = {(values[n.input[2]].dtype, int(values[n.input[2]])) for n in activation_nodes(model)}
    assert zero_points == {(np.dtype(np.uint8), 0), (np.dtype(np.uint8), 128)}
    behind = {node.output[0]: node for node in of_type(model, "DequantizeLinear")}
    quantized = [node for node in of_type(model, "Conv") if node.input[1] in behind]
    for node in quantized:
        bias = behind[node.input[2]]
        assert values[bias.input[0]].dtype == np.int32
        source, weight = behind[node.input[0]], behind[node.input[1]]
        expected = values[source.input[1]] * values[weight.input[1]]
        np.testing.assert_allclose(values[bias.input[1]], expected, rtol=1e-6)


def optimized(model: onnx.ModelProto, path: str) -> onnx.ModelProto:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = path
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def test_onnx_runtime_fuses_every_group_of_the_cpu_variant(
    cpu: tuple[ModelConfig, onnx.ModelProto], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config, model = cpu
    fused = optimized(model, str(tmp_path_factory.mktemp("fused") / "fused.onnx"))
    traced = calibrated(config).traced
    counts, kinds = Counter(node.op_type for node in fused.graph.node), [kind(traced, n) for n in traced.graph.nodes]
    assert counts["QLinearConv"] == len(set(place(traced, "cpu").convs) - predictors(traced))
    assert counts["QLinearAdd"] == kinds.count("add")
    assert counts["QLinearConcat"] == kinds.count("concat")
    produced = {name: node.op_type for node in fused.graph.node for name in node.output}
    passed = [node for node in fused.graph.node if node.op_type == "MaxPool" or nearest(node)]
    assert len(passed) == kinds.count("max_pool") + kinds.count("nearest")
    assert all(produced[node.input[0]].startswith("QLinear") for node in passed)


def predictors(traced: fx.GraphModule) -> set[str]:
    """Convolutions whose results leave the network as they are: with integer weights, but not rounded."""
    results = next(node for node in traced.graph.nodes if node.target is Predictions)
    return {node.name for node in results.all_input_nodes}


def nearest(node: onnx.NodeProto) -> bool:
    return node.op_type == "Resize" and any(a.name == "mode" and a.s == b"nearest" for a in node.attribute)


@pytest.mark.parametrize("config", [TINY, pytest.param(LITE, marks=pytest.mark.slow)], ids=lambda config: config.name)
def test_variants_hold_the_same_weights_and_ranges(config: ModelConfig, export: Export) -> None:
    cpu, tensorrt = (export(config, variant).model for variant in ("cpu", "tensorrt"))
    pairs = list(zip(weight_inputs(cpu), weight_inputs(tensorrt), strict=True))
    ours, theirs = constants(cpu), constants(tensorrt)
    for one, other in pairs:
        for index in (0, 1):
            np.testing.assert_array_equal(ours[one.input[index]], theirs[other.input[index]])
    signed = {float(ours[n.input[1]]) for n in activation_nodes(cpu) if int(ours[n.input[2]]) == 128}
    unsigned = {float(ours[n.input[1]]) for n in activation_nodes(cpu) if int(ours[n.input[2]]) == 0}
    steps = [float(theirs[n.input[1]]) for n in activation_nodes(tensorrt)]
    expected = sorted(chain(signed, (step * 255 / 127 for step in unsigned)))
    for step in steps:
        assert min(abs(step / other - 1) for other in expected) < 1e-6


def test_all_biases_are_kept_where_there_is_no_quantizer(export: Export) -> None:
    assert not of_type(export(TINY, "float").model, "QuantizeLinear", "DequantizeLinear")
