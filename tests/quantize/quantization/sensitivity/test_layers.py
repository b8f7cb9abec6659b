"""The layers of a network: every quantized convolution is in one, with its cost, under a name that can be ignored."""

from __future__ import annotations

import pytest
from torch import fx

from blendmask_quantize.model.macs import count_macs, macs_by_layer
from blendmask_quantize.quantization.placement import place
from blendmask_quantize.quantization.sensitivity.layers import Layers
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import FEW_FAST, FIVE_LEVELS, LITE, size_of, slow, small_network
from tests.quantize.tiny import TINY


@pytest.fixture(scope="module", params=FEW_FAST, ids=lambda config: config.name)
def network(request: pytest.FixtureRequest) -> tuple[fx.GraphModule, Layers, int]:
    model, size = small_network(request.param), size_of(request.param)
    traced = trace_network(model)
    return traced, Layers.of(traced, macs_by_layer(model, size)), count_macs(model, size)


def test_every_quantized_convolution_is_in_one_layer(network: tuple[fx.GraphModule, Layers, int]) -> None:
    traced, layers, _ = network
    nodes = [node for layer in layers.quantized for node in layer.nodes]
    assert sorted(nodes) == sorted(place(traced, "cpu").convs)


def test_layers_and_float_share_add_up_to_all_multiply_accumulates(network: tuple[fx.GraphModule, Layers, int]) -> None:
    _, layers, macs = network
    assert all(layer.macs > 0 for layer in layers.quantized)
    assert layers.total_macs == macs
    assert 0 < layers.float_share() < 0.5
    assert layers.float_share(layers.quantized) == pytest.approx(1)


def test_blocks_hold_every_layer_once(network: tuple[fx.GraphModule, Layers, int]) -> None:
    _, layers, _ = network
    blocks = layers.blocks()
    assert sorted(layer.name for several in blocks.values() for layer in several) == sorted(
        layer.name for layer in layers.quantized
    )
    assert max(map(len, blocks.values())) > 1
    for name, several in blocks.items():
        assert all(f"{layer.name}.".startswith(f"{name}.") for layer in several)


@pytest.mark.parametrize("config", [TINY, *slow(LITE, FIVE_LEVELS)], ids=lambda config: config.name)
def test_names_of_layers_and_blocks_can_be_ignored(config: object) -> None:
    model = small_network(config)  # type: ignore[arg-type]
    traced = trace_network(model)
    layers = Layers.of(traced, macs_by_layer(model, size_of(model.config)))
    for several in (layers.quantized[:1], *list(layers.blocks().values())[-2:]):
        names = tuple(layer.name for layer in several)
        left = Layers.of(trace_network(model, names), macs_by_layer(model, size_of(model.config)))
        assert {layer.name for layer in layers.quantized} - {layer.name for layer in left.quantized} == set(names)
