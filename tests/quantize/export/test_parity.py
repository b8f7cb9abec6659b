"""The exported file computes what the torch graph computes, and a file that does not is found out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from blendmask_quantize.export import normalization
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.export.parity import (
    INPUT_TOLERANCE,
    MASK_TOLERANCE,
    STEP_TOLERANCE,
    Parity,
    ParityError,
    check_parity,
    eager_detections,
    measure_parity,
)
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.predictor import network_input
from blendmask_quantize.pipeline.options import CANDIDATES_MOST
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.export.conftest import Export, Exported
from tests.quantize.parity import Reference
from tests.quantize.small_networks import (
    ASSEMBLER,
    DEEPLAB,
    DLA,
    FIVE_LEVELS,
    FROZEN,
    LITE,
    WEIGHTED_SUM,
    image,
    size_of,
    small_network,
)
from tests.quantize.tiny import TINY
from tests.reference_values import recorded_cases

FEW = replace(
    FROZEN, name="TINY_FEW", inference=replace(FROZEN.inference, candidates_per_level=28, detections=30),
    input=replace(FROZEN.input, mean=(103.53, 116.28, 123.675)),
)  # fmt: skip
"""Limits of selection below the graph's own, and a pixel mean between gray levels."""

CASES = [
    (TINY, "float"), (TINY, "cpu"), (TINY, "tensorrt"),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            (FEW, "float"), (FEW, "cpu"), (LITE, "cpu"), (LITE, "tensorrt"), (WEIGHTED_SUM, "float"),
            (ASSEMBLER, "float"),
            *((config, variant) for config in (DEEPLAB, FIVE_LEVELS, DLA) for variant in ("cpu", "tensorrt")),
        )
    ),
]  # fmt: skip


def of_another_shape(config: ModelConfig) -> tuple[int, int]:
    """A size that the input holds with padding at the right, a resize apart."""
    height, width = size_of(config)
    return height + 16, width - 24


@pytest.mark.parametrize("config, variant", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_parity_holds(config: ModelConfig, variant: str, seed: int, export: Export) -> None:
    case = export(config, variant)
    found = check_parity(case.network, case.graph, case.model, image(seed, of_another_shape(config))[0])
    assert found.holds
    assert found.detections > 10
    assert found.mask_error < MASK_TOLERANCE / 10
    assert found.step_error < STEP_TOLERANCE / 10
    assert found.weights_changed == 0


@pytest.mark.slow
@pytest.mark.parametrize("live_rows", [False, True])
def test_more_than_512_candidates_are_those_of_the_eager_network(live_rows: bool) -> None:
    config = replace(
        TINY, name="TINY_MANY",
        inference=replace(TINY.inference, candidates_per_level=2000, score_threshold=1e-6, detections=100),
    )  # fmt: skip
    model = small_network(config)
    for asked, is_complete in ((CANDIDATES_MOST, True), (512, False)):
        bounds = Bounds(candidates=asked)
        graph = DeployableGraph(model, trace_network(model), (128, 192), bounds, live_rows=live_rows).eval()
        found = check_parity(model, graph, export_onnx(graph), image(3, (140, 180))[0])
        assert found.candidates == 3 * (16 * 24 + 8 * 12 + 4 * 6)
        assert (found.candidates <= graph.bounds.candidates) is is_complete
        assert (found.detections, found.left_out) == (100, 0)


@pytest.mark.parametrize("cap, is_enough", [(6, False), (10**4, True)])
def test_instances_that_a_cap_of_candidates_costs_are_counted(cap: int, is_enough: bool) -> None:
    model = small_network(TINY)
    with torch.no_grad():
        predictions = model(network_input(model, image(0)[0], size_of(TINY))[0])
        every = eager_detections(model, predictions, Bounds(candidates=10**4), size_of(TINY))
        found = eager_detections(model, predictions, Bounds(candidates=cap), size_of(TINY))
    assert found.candidates == every.candidates > 6
    assert found.left_out == len(every.outputs.scores[0]) - len(found.outputs.scores[0])
    assert (found.left_out == 0) is is_enough


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recorded_cases() if name != "dcn"])
def test_every_released_network_is_exported_as_it_is_eager(parity: Path, name: str) -> None:
    """From the pixels of the file; deformable convolutions have no ONNX operator."""
    case = Reference(parity / name)
    model, pixels = case.checkpoint().model, case.images[0]
    graph = DeployableGraph(model, trace_network(model), tuple(case.about["padded_hw"]), Bounds()).eval()
    found = check_parity(model, graph, export_onnx(graph), pixels)
    assert found.detections == min(model.config.inference.detections, found.detections) > 10


def changed(case: Exported, name: str, change: object) -> onnx.ModelProto:
    """The file with one stored tensor replaced by what `change` makes of it."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    (tensor,) = (entry for entry in model.graph.initializer if entry.name == name)
    value = numpy_helper.to_array(tensor).copy()
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(change(value), value.dtype), name))  # type: ignore[operator]
    return model


def stored(case: Exported, dtype: type, *, scalar: bool = False) -> list[str]:
    """Names of the stored tensors of a type that convolutions read, or of the steps of activations."""
    if scalar:
        return [node.input[1] for node in case.model.graph.node if node.op_type == "QuantizeLinear"]
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in case.model.graph.initializer}
    dequantized = {n.output[0]: n.input[0] for n in case.model.graph.node if n.op_type == "DequantizeLinear"}
    read = [
        dequantized.get(name, name) for n in case.model.graph.node if n.op_type == "Conv" for name in list(n.input)[1:]
    ]
    return [name for name in read if name in values and values[name].dtype == dtype]


def flip_one_channel(value: np.ndarray) -> np.ndarray:
    value[0] = -value[0]
    return value


def nudge_largest(value: np.ndarray) -> np.ndarray:
    """One integer, the largest, loses a step."""
    index = np.unravel_index(np.abs(value.astype(int)).argmax(), value.shape)
    value[index] -= np.sign(value[index])
    return value


def assert_found_out(case: Exported, name: str, change: object) -> None:
    with pytest.raises(ParityError, match="differs from the network"):
        check_parity(case.network, case.graph, changed(case, name, change), case.image[0])


@pytest.mark.parametrize("variant", ["cpu", "tensorrt"])
@pytest.mark.parametrize("position", [0, 1, 10, 25, -1])
def test_a_weight_with_a_flipped_channel_is_found_out(variant: str, position: int, export: Export) -> None:
    case = export(TINY, variant)
    assert_found_out(case, stored(case, np.int8)[position], flip_one_channel)


@pytest.mark.parametrize("position", [0, 1, 10, 25, -1])
def test_a_single_changed_integer_is_found_out(position: int, export: Export) -> None:
    case = export(TINY, "cpu")
    assert_found_out(case, stored(case, np.int8)[position], nudge_largest)


@pytest.mark.parametrize("variant", ["cpu", "tensorrt"])
@pytest.mark.parametrize("position", [0, 10, 25, -1])
def test_a_changed_step_of_an_activation_is_found_out(variant: str, position: int, export: Export) -> None:
    case = export(TINY, variant)
    assert_found_out(case, stored(case, np.float32, scalar=True)[position], lambda value: value * 1.03)


def test_a_changed_integer_bias_is_found_out(export: Export) -> None:
    case = export(TINY, "cpu")
    assert_found_out(case, stored(case, np.int32)[5], lambda value: value + 1)


def test_a_changed_predictor_is_found_out(export: Export) -> None:
    case = export(TINY, "float")
    for name in ("box_weight", "basis_module.tower.3.weight", "top_weight"):
        (full,) = (tensor.name for tensor in case.model.graph.initializer if tensor.name.endswith(name))
        assert_found_out(case, full, lambda value: value * 1.1)


def mistaken(fault: str, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """`FEW` exported with a fault in the selection or the padding."""
    if fault == "padding":
        monkeypatch.setattr(normalization, "_pads_exactly", lambda _: True)
    model = small_network(FEW)
    graph = DeployableGraph(model, trace_network(model), size_of(FEW), Bounds()).eval()
    if fault == "one level's limit for all":
        graph.bounds = replace(graph.bounds, candidates=28, detections=28)
    elif fault == "no limit of a level":
        graph.config = replace(FEW, inference=replace(FEW.inference, candidates_per_level=1000))
    elif fault == "rows":
        graph.bounds = replace(graph.bounds, detections=graph.bounds.candidates)
    return Exported(model, graph, export_onnx(graph), image(7, of_another_shape(FEW)))


def limited(config: ModelConfig, **limits: int) -> ModelConfig:
    return replace(config, inference=replace(config.inference, **limits))


MEAN = (103.0, 116.0, 124.0)
OTHERS = [
    (TINY, limited(TINY, candidates_per_level=5)), (TINY, limited(TINY, detections=5)),
    (TINY, replace(TINY, input=replace(TINY.input, mean=MEAN))),
    *(
        pytest.param(FEW, other, marks=pytest.mark.slow)
        for other in (
            limited(FEW, candidates_per_level=1000), limited(FEW, detections=40),
            replace(FEW, input=replace(FEW.input, mean=MEAN)),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    "config, other", OTHERS, ids=[f"{name}-{limit}" for name in ("TINY", "FEW") for limit in ("level", "rows", "mean")]
)
def test_the_graph_of_another_limit_or_pixel_mean_is_found_out(
    config: ModelConfig, other: ModelConfig, export: Export
) -> None:
    case = export(config, "float")
    with pytest.raises(ParityError):
        check_parity(small_network(other), case.graph, case.model, image(7, of_another_shape(config))[0])


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["no limit of a level", "padding", "rows", "one level's limit for all"])
def test_a_wrong_limit_or_padding_is_found_out(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = mistaken(fault, monkeypatch)
    with pytest.raises(ParityError):
        check_parity(case.network, case.graph, case.model, case.image[0])


def test_a_quantizer_left_out_is_found_out(export: Export) -> None:
    case = export(TINY, "cpu")
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    rounded = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    behind = next(node for node in model.graph.node if rounded.output[0] in node.input)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == behind.output[0]:
                node.input[index] = rounded.input[0]
    model.graph.node.remove(behind)
    model.graph.node.remove(rounded)
    with pytest.raises(ParityError):
        check_parity(case.network, case.graph, model, case.image[0])


def test_the_variants_are_not_taken_for_one_another(export: Export) -> None:
    case = export(TINY, "cpu")
    with pytest.raises(ParityError):
        check_parity(case.network, case.graph, export(TINY, "tensorrt").model, image(0)[0])


def test_the_message_says_what_differs_and_what_to_do(export: Export) -> None:
    case = export(TINY, "cpu")
    model = changed(case, stored(case, np.int8)[0], flip_one_channel)
    found = measure_parity(case.network, case.graph, model, case.image[0])
    assert not found.holds
    with pytest.raises(ParityError, match=r"steps beyond rounding.*Nothing was written; please report"):
        check_parity(case.network, case.graph, model, case.image[0])


@pytest.mark.parametrize(
    "found",
    [
        Parity(5, 1, 0.0, 0.0),
        Parity(5, 0, 1.1 * MASK_TOLERANCE, 0.0),
        Parity(5, 0, 0.0, 1.1 * STEP_TOLERANCE),
        Parity(5, 0, 0.0, 0.0, 1),
        Parity(5, 0, 0.0, 0.0, 0, 1.1 * INPUT_TOLERANCE),
    ],
)
def test_each_tolerance_counts(found: Parity) -> None:
    assert not found.holds
