"""The network with another rounding operator computes the graph of the bundle, for each layer on the same inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blendmask_quantize.export.torch_tensorrt.from_network import ExplicitNetwork
from blendmask_quantize.export.torch_tensorrt.from_onnx import OnnxModule
from blendmask_quantize.model.config import ModelConfig
from tests.quantize.export.conftest import Export
from tests.quantize.export.torch_tensorrt.fed import Fed, rows_in_order, run_onnx
from tests.quantize.small_networks import DEEPLAB, DLA, FIVE_LEVELS, FROZEN, LITE
from tests.quantize.tiny import TINY

CONFIGS = [
    TINY, *(pytest.param(config, marks=pytest.mark.slow) for config in (LITE, DLA, FROZEN, FIVE_LEVELS, DEEPLAB))
]  # fmt: skip
configs = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
THRESHOLD = torch.zeros(1)


@configs
def test_the_program_computes_the_graph_of_the_bundle(config: ModelConfig, export: Export) -> None:
    """Each layer is fed what ONNX Runtime computed of the exported graph; every rounding and weight is compared."""
    case = export(config, "tensorrt")
    expected, rounded = run_onnx(case.model, case.image)
    fed = Fed(rounded)
    module = ExplicitNetwork(case.graph, fed)
    with torch.no_grad():
        outputs = [output.numpy() for output in module(torch.from_numpy(case.image), THRESHOLD)]
    stored = sum(node.op_type == "DequantizeLinear" for node in case.model.graph.node) - len(rounded)
    assert (fed.used, fed.weights) == (len(rounded), stored)
    assert fed.error < 1e-3
    assert (expected[1] > 0).sum() > 10
    here, there = rows_in_order(outputs), rows_in_order(expected)
    for ours, theirs in zip(outputs, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours[0, here], theirs[0, there], rtol=1e-4, atol=1e-3)


@configs
def test_both_routes_run_free_give_the_same(config: ModelConfig, export: Export) -> None:
    case = export(config, "tensorrt")
    image = torch.from_numpy(case.image)
    with torch.no_grad():
        straight = ExplicitNetwork(case.graph)(image, THRESHOLD)
        detour = OnnxModule(case.model.SerializeToString())(image, THRESHOLD)
    for ours, theirs in zip(straight, detour, strict=True):  # operators of the graph may add in another order
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_half_around_what_is_quantized_changes_no_box_and_no_score(export: Export) -> None:
    case = export(TINY, "tensorrt")
    image = torch.from_numpy(case.image)
    with torch.no_grad():
        halves = ExplicitNetwork(case.graph, half=True)(image, THRESHOLD)
        exact = ExplicitNetwork(case.graph)(image, THRESHOLD)
    assert [output.dtype for output in halves] == [output.dtype for output in exact]
    for ours, theirs in zip(halves[:3], exact[:3], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    torch.testing.assert_close(halves[3], exact[3], rtol=0.01, atol=0.01)
    assert not torch.equal(halves[3], exact[3])


def test_float_layers_run_in_half_but_for_predictors_of_boxes_and_scores(export: Export) -> None:
    """A float network is one in which every layer is ignored."""
    module = ExplicitNetwork(export(TINY, "float").graph, half=True)
    convs = {name: m for name, m in module.deployable.network.named_modules() if isinstance(m, torch.nn.Conv2d)}
    exact = {name for name, conv in convs.items() if conv.weight.dtype == torch.float32}
    assert exact == {name for name in convs if "cls_logits" in name}
    assert len(convs) - len(exact) > 10


def test_the_given_graph_is_left_as_it_is(export: Export) -> None:
    case = export(TINY, "tensorrt")
    before = dict(case.graph.network.named_modules())
    ExplicitNetwork(case.graph, half=True)
    assert dict(case.graph.network.named_modules()) == before
    assert case.graph.remainder == torch.float32
