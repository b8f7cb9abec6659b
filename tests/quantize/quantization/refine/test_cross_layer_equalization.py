"""Equalizing changes what is rounded, not what is computed."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, fx, nn

from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.quantization.nodes import kind
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import observe_ranges, render
from blendmask_quantize.quantization.refine.cross_layer_equalization import (
    Chain,
    ChannelStatistics,
    best_factors,
    equalize,
    find_chains,
)
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import FEW_FAST, SMALL_NETWORKS, image, network_input, size_of, small_network
from tests.quantize.tiny import TINY


def tensors(predictions: Predictions) -> list[Tensor]:
    parts = (predictions.logits, predictions.regression, predictions.centerness, predictions.towers)
    return [tensor for part in parts for tensor in part] + [predictions.bases]


def nodes(traced: fx.GraphModule) -> dict[str, fx.Node]:
    return {node.name: node for node in traced.graph.nodes}


def unbalanced(traced: fx.GraphModule, spread: float, seed: int = 0) -> fx.GraphModule:
    """The same function with channels of very different size: what equalizing undoes."""
    scaled, generator = copy.deepcopy(traced), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for chain in find_chains(scaled):
            if chain.cap < math.inf:
                continue
            maker = scaled.get_submodule(str(chain.maker.target))
            factors = torch.exp2(spread * torch.randn(maker.out_channels, generator=generator))
            maker.weight.mul_(factors[:, None, None, None])
            maker.bias.mul_(factors)
            for reader in chain.readers:
                conv = scaled.get_submodule(str(reader.target))
                for row, weight in enumerate(conv.weight):
                    first = row // (conv.out_channels // conv.groups) * weight.shape[0]
                    weight.div_(factors[first : first + weight.shape[0], None, None])
    return scaled


@pytest.mark.parametrize("config", FEW_FAST, ids=lambda config: config.name)
def test_the_network_computes_what_it_did(config: ModelConfig) -> None:
    seed = SMALL_NETWORKS.index(config)
    model = small_network(config, seed)
    traced = unbalanced(trace_network(model), spread=2.5, seed=seed)
    x = network_input(model, image(seed, size_of(config)))
    result = equalize(traced, [x])
    with torch.no_grad():
        for one, other in zip(tensors(result.traced(x)), tensors(traced(x)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


def test_it_also_computes_that_for_images_it_has_not_seen() -> None:
    model = small_network(TINY)
    traced = unbalanced(trace_network(model), 2.0)
    result = equalize(traced, [network_input(model, image(0))]).traced
    bright = 20 * torch.randn((1, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for one, other in zip(tensors(result(bright)), tensors(traced(bright)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


def test_only_tensors_that_convolutions_alone_read_are_scaled() -> None:
    traced = trace_network(small_network(TINY))
    by_name = nodes(traced)
    chains = find_chains(traced)
    assert chains
    for chain in chains:
        inside = {by_name[name] for name in chain.between}
        assert all(user in inside or user in chain.readers for node in inside for user in node.users)
    towers = {source.name for source in by_name["output"].all_input_nodes[0].all_input_nodes}
    assert not towers & {name for chain in chains for name in chain.between}


def test_behind_a_cap_channels_grow_to_half_of_it_and_what_it_may_bind_stays() -> None:
    largest = torch.tensor([6.0, 4.0, 2.0, 0.5])
    depthwise = torch.diag(torch.ones(4))[:, :, None]
    factors = best_factors(ChannelStatistics(largest, largest.square() / 3), [depthwise], cap=6.0)
    torch.testing.assert_close(factors, torch.tensor([1, 1, 2 / 3, 1 / 6]))


def test_the_input_is_left_as_it_was() -> None:
    model = small_network(TINY)
    traced = unbalanced(trace_network(model), 3.0)
    before = copy.deepcopy(traced.state_dict())
    result = equalize(traced, [network_input(model, image(0))])
    assert all(torch.equal(value, before[name]) for name, value in traced.state_dict().items())
    assert result.tensors > 0
    assert result.changed <= set(nodes(traced))


@pytest.mark.slow
def test_a_network_of_unbalanced_channels_survives_rounding_only_with_it() -> None:
    model = small_network(TINY)
    inputs = [network_input(model, image(seed)) for seed in range(3)]
    traced = unbalanced(trace_network(model), 3.0)
    equalized = equalize(traced, inputs).traced
    errors = []
    with torch.no_grad():
        expected = traced(inputs[0]).bases
        for network in (traced, equalized):
            ranges = observe_ranges(network, inputs, "mse")
            rendered = [render(network, ranges, variant)(inputs[0]).bases for variant in VARIANTS]
            errors.append([((bases - expected).std() / expected.std()).item() for bases in rendered])
    assert all(after < 0.3 * before for before, after in zip(*errors, strict=True))


def test_channels_that_say_nothing_keep_their_size() -> None:
    silent = ChannelStatistics(torch.tensor([0.0, 4.0, 1.0]), torch.tensor([0.0, 4.0, 0.2]))
    weight = torch.tensor([[[1.0], [1.0], [1.0]]])
    factors = best_factors(silent, [weight])
    assert factors[0] == 1
    assert torch.all(factors > 0)
    assert torch.equal(best_factors(ChannelStatistics(torch.zeros(3), torch.zeros(3)), [weight]), torch.ones(3))


def test_balanced_channels_are_not_touched() -> None:
    level = ChannelStatistics(torch.full((4,), 2.0), torch.ones(4))
    assert torch.equal(best_factors(level, [torch.ones(3, 4, 9)]), torch.ones(4))


def test_readers_of_one_channel_each_make_all_channels_alike() -> None:
    largest = torch.tensor([1.0, 8.0, 64.0])
    depthwise = torch.diag(torch.ones(3))[:, :, None]
    factors = best_factors(ChannelStatistics(largest, largest.square() / 3), [depthwise])
    torch.testing.assert_close(largest / factors, torch.full((3,), (largest / factors)[0].item()))


def test_a_chain_names_the_tensor_that_is_rounded() -> None:
    traced = fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    (chain,) = find_chains(traced)
    assert isinstance(chain, Chain)
    assert chain.tensor == chain.between[-1]
    assert kind(traced, nodes(traced)[chain.tensor]) == "relu"
