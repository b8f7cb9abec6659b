"""Roundings are grid points that nearest rounding gives again, and are changed only where a layer gains by them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.quantization.placement import VARIANTS, place
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.quantizer import IntegerConv2d
from blendmask_quantize.quantization.refine.adaround import AdaRound
from blendmask_quantize.quantization.refine.coordinate_descent import CoordinateDescent
from blendmask_quantize.quantization.refine.rounding import (
    Find,
    Patches,
    Rounded,
    Sampling,
    WeightQparams,
    find_roundings,
)
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import LITE, image, network_input, size_of, small_network
from tests.quantize.tiny import TINY

FEW = Sampling(patches=256)
WAYS = {"adaround": AdaRound(iterations=20, learning_rate=0.3), "coordinate_descent": CoordinateDescent()}


def case(config: ModelConfig) -> tuple[Calibrated, list[Tensor]]:
    model = small_network(config)
    traced = trace_network(model)
    inputs = [network_input(model, image(seed, size_of(config))) for seed in range(4)]
    return Calibrated(traced, observe_ranges(traced, inputs, "max")), inputs


@dataclass(frozen=True)
class Result:
    """Roundings, the network that they were found for, and its tensors before."""

    start: Calibrated
    before: dict[str, Tensor]
    rounded: Rounded


@pytest.fixture(
    scope="module",
    params=[
        (TINY, "adaround"), (LITE, "coordinate_descent"),
        pytest.param((LITE, "adaround"), marks=pytest.mark.slow),
        pytest.param((TINY, "coordinate_descent"), marks=pytest.mark.slow),
    ],
)  # fmt: skip
def result(request: pytest.FixtureRequest) -> Result:
    config, way = request.param
    start, inputs = case(config)
    before = {name: value.clone() for name, value in start.traced.state_dict().items()}
    return Result(start, before, find_roundings(start, inputs, WAYS[way], FEW))


def integers(calibrated: Calibrated, variant: str) -> dict[str, IntegerConv2d]:
    modules = calibrated.render(variant).named_modules()
    return {name: module for name, module in modules if isinstance(module, IntegerConv2d)}


def test_each_weight_goes_to_a_neighboring_grid_point(result: Result) -> None:
    start, rounded = result.start, result.rounded
    assert rounded.changed
    assert rounded.tried == len(place(start.traced, "cpu").convs)
    before, after = integers(start, "cpu"), integers(rounded.calibrated, "cpu")
    for name, conv in after.items():
        moved = (conv.integers.int() - before[name].integers.int()).abs()
        assert moved.max() <= 1
        assert bool(moved.any()) == (name in rounded.changed)
        torch.testing.assert_close(conv.weight_scale, before[name].weight_scale, rtol=1e-6, atol=0)
        weight = rounded.calibrated.traced.get_submodule(name).weight
        steps = weight / conv.weight_scale.reshape(-1, 1, 1, 1)
        rounding_distance = (steps - conv.integers).abs().max()
        assert rounding_distance < 1e-3 or name not in rounded.changed


def test_the_variants_share_the_integers(result: Result) -> None:
    one, other = (integers(result.rounded.calibrated, variant) for variant in VARIANTS)
    assert all(torch.equal(one[name].integers, other[name].integers) for name in one)


def test_changed_layers_have_less_error_on_held_out_images(result: Result) -> None:
    assert all(left < 1 for left in result.rounded.changed.values())


def test_the_start_is_left_as_it_was(result: Result) -> None:
    after = result.start.traced.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in result.before.items())


class Layers(nn.Module):
    """One rounded convolution of channels that say nearly the same, so that roundings can make up for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = F.relu(self.second(F.relu(self.first(x))))
        return result


@pytest.mark.parametrize(
    "find, left", [(AdaRound(iterations=200, learning_rate=0.05), 0.6), (CoordinateDescent(), 0.3)]
)
def test_it_gains_where_inputs_go_together(find: Find, left: float) -> None:
    torch.manual_seed(0)
    traced = fx.symbolic_trace(Layers().eval())
    inputs = [torch.rand(1, 1, 24, 24).expand(-1, 6, -1, -1) + 0.01 * torch.rand(1, 6, 24, 24) for _ in range(4)]
    start = Calibrated(traced, observe_ranges(traced, inputs, "max"))
    rounded = find_roundings(start, inputs, find, Sampling(patches=512))
    assert rounded.changed["first"] < left


@pytest.mark.parametrize("seed", range(5))
def test_descent_ends_where_no_single_step_gains(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(2, 3, 9, generator=generator)
    step = weight.abs().amax(dim=-1, keepdim=True) / 127
    qparams = WeightQparams(weight, step, torch.zeros(2, 1, 3))
    reads = torch.rand(2, 400, 1, generator=generator) + 0.1 * torch.randn(2, 400, 9, generator=generator)
    steps = CoordinateDescent()(qparams, Patches(reads, None))

    def cost(candidate: Tensor) -> Tensor:
        return (reads @ (candidate * step - weight).transpose(1, 2)).square().mean(dim=1)

    assert (cost(steps) <= cost(qparams.nearest)).all()
    assert cost(steps).sum() < 0.9 * cost(qparams.nearest).sum()
    assert torch.equal(steps, steps.round())
    assert torch.equal(steps[~qparams.free], qparams.nearest[~qparams.free])
    for tap in range(9):
        for direction in (-1, 1):
            other = steps.clone()
            other[..., tap] += direction
            gains = cost(other) < 0.98 * cost(steps)
            near = (other - qparams.nearest).abs()[..., tap] <= 1
            assert not (gains & near & qparams.free[..., tap]).any()
