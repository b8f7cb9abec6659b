"""Runs with one quantized layer: they equal the whole network with all other layers in float."""

from __future__ import annotations

import pytest
import torch

from blendmask_quantize.model.macs import macs_by_layer
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.sensitivity.layers import Layers
from blendmask_quantize.quantization.sensitivity.partial import PartialRuns, quantized_only
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import DLA, FIVE_LEVELS, LITE, image, network_input, size_of, slow, small_network


def _tensors(predictions: object) -> list[torch.Tensor]:
    flat, _ = torch.utils._pytree.tree_flatten(predictions)
    return [value for value in flat if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("config", [LITE, *slow(FIVE_LEVELS, DLA)], ids=lambda config: config.name)
@torch.no_grad()
def test_a_partial_run_equals_a_whole_one(config: object) -> None:
    model = small_network(config)  # type: ignore[arg-type]
    traced = trace_network(model)
    x = network_input(model, image(0, size_of(model.config)))
    calibrated = Calibrated(traced, observe_ranges(traced, [x], "max"))
    layers = Layers.of(traced, macs_by_layer(model, size_of(model.config))).quantized
    runs = PartialRuns(traced)
    for index, layer in enumerate(layers[:: len(layers) // 4]):
        runs.choose(None)
        reference = runs(x)
        network = quantized_only(calibrated, layer.nodes, VARIANTS[index % 2])
        runs.choose(network)
        partial = _tensors(runs(x))
        assert all(map(torch.equal, partial, _tensors(network(x))))
        assert not all(map(torch.equal, partial, _tensors(reference))), layer.name


def test_all_other_layers_stay_float() -> None:
    model = small_network(LITE)
    traced = trace_network(model)
    calibrated = Calibrated(traced, observe_ranges(traced, [network_input(model, image(0))], "max"))
    layers = Layers.of(traced, macs_by_layer(model, (64, 96))).quantized
    for variant in VARIANTS:
        network = quantized_only(calibrated, layers[3].nodes, variant)
        integer = [name for name, module in network.named_modules() if type(module).__name__ == "IntegerConv2d"]
        assert integer == [layers[3].name]
    assert len(Layers.of(traced, {}).quantized) > 1, "the network itself is left as it is"
