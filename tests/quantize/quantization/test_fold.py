"""Folding and tracing change nothing but the form of the network."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.layers import FrozenBatchNorm2d, SameConv2d
from blendmask_quantize.quantization.fold import fold, fold_norms
from blendmask_quantize.quantization.nodes import kind
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import (
    FIVE_LEVELS,
    LITE,
    PLAIN,
    SMALL_NETWORKS,
    image,
    network_input,
    size_of,
    small_network,
)

NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


@pytest.fixture(scope="module", params=SMALL_NETWORKS, ids=lambda config: config.name)
def model(request: pytest.FixtureRequest) -> BlendMask:
    config: ModelConfig = request.param
    return small_network(config)


@pytest.fixture(scope="module")
def x(model: BlendMask) -> Tensor:
    return network_input(model, image(0, size_of(model.config)))


def tensors(predictions: Predictions) -> list[Tensor]:
    parts = (predictions.logits, predictions.regression, predictions.centerness, predictions.towers)
    return [tensor for part in parts for tensor in part] + [predictions.bases]


def assert_same(result: Predictions, expected: Predictions) -> None:
    for ours, theirs in zip(tensors(result), tensors(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


def test_folded_network_computes_what_the_float_one_does(model: BlendMask, x: Tensor) -> None:
    folded = fold_norms(model)
    assert not any(isinstance(module, NORMS) for module in folded.modules())
    with torch.no_grad():
        assert_same(folded(x), model(x))


def test_folding_leaves_the_model_as_it_was(model: BlendMask) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fold_norms(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_traced_network_computes_what_the_float_one_does(model: BlendMask, x: Tensor) -> None:
    with torch.no_grad():
        assert_same(trace_network(model)(x), model(x))


def test_every_call_has_a_module_of_its_own(model: BlendMask) -> None:
    traced = trace_network(model)
    called = [traced.get_submodule(str(node.target)) for node in traced.graph.nodes if node.op == "call_module"]
    assert len({id(module) for module in called}) == len(called)
    convs = [module for module in called if isinstance(module, nn.Conv2d)]
    assert len({module.weight.data_ptr() for module in convs}) == len(convs)


def test_no_operator_is_unknown_to_the_placement(model: BlendMask) -> None:
    traced = trace_network(model)
    assert "other" not in {kind(traced, node) for node in traced.graph.nodes}


def test_a_tower_shared_by_the_levels_is_called_once_a_level() -> None:
    traced = trace_network(small_network(PLAIN))
    names = [
        str(n.target) for n in traced.graph.nodes if "share_tower.2" in str(n.target) and kind(traced, n) == "conv"
    ]
    assert len(names) == len(set(names)) == 3


def test_one_normalization_a_level_becomes_one_convolution_a_level() -> None:
    model = small_network(SMALL_NETWORKS[0])
    convs = fold_norms(model).proposal_generator.fcos_head.share_tower[0]
    assert all(not torch.equal(one.weight, other.weight) for one, other in pairwise(convs))


def test_group_normalization_and_same_padding_stay() -> None:
    def count(network: nn.Module, kind: type[nn.Module]) -> int:
        return sum(isinstance(module, kind) for module in network.modules())

    assert count(fold_norms(small_network(FIVE_LEVELS)), nn.GroupNorm) == count(
        small_network(FIVE_LEVELS), nn.GroupNorm
    )
    assert count(trace_network(small_network(LITE)), SameConv2d) == count(small_network(LITE), SameConv2d) > 0


def test_the_semantic_head_of_training_is_gone() -> None:
    assert small_network(SMALL_NETWORKS[0]).basis_module.seg_head is not None
    assert fold_norms(small_network(SMALL_NETWORKS[0])).basis_module.seg_head is None


@pytest.mark.parametrize("bias", [True, False])
def test_a_dead_channel_folds_to_a_constant(bias: bool) -> None:
    conv, norm = nn.Conv2d(3, 4, 3, bias=bias), nn.BatchNorm2d(4).eval()
    with torch.no_grad():
        norm.running_var.uniform_(0.5, 2)
        norm.running_mean.normal_()
        norm.weight[1], norm.bias[1] = 0, 0.7
        folded, x = fold(conv, norm), torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(folded(x), norm(conv(x)))
        assert torch.all(folded(x)[:, 1] == 0.7)
