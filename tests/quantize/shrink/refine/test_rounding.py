"""Learned roundings are grid points that nearest rounding gives again, and are kept only where a layer gains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.shrink.graph import trace_network
from blendmask_quantize.shrink.placement import FLAVOURS, place
from blendmask_quantize.shrink.ptq import Calibrated, observe_ranges
from blendmask_quantize.shrink.quantizer import IntegerConv2d
from blendmask_quantize.shrink.refine.rounding import Learned, RoundingOptions, learn_rounding
from tests.quantize.tiny import TINY
from tests.quantize.variants import LITE, network_input, picture, size_of, variant

FEW = RoundingOptions(iterations=60, patches=256, learning_rate=0.1)


def case(config: ModelConfig) -> tuple[Calibrated, list[Tensor]]:
    model = variant(config)
    traced = trace_network(model)
    inputs = [network_input(model, picture(seed, size_of(config))) for seed in range(4)]
    return Calibrated(traced, observe_ranges(traced, inputs, "max")), inputs


@pytest.fixture(scope="module", params=[TINY, LITE], ids=lambda config: config.name)
def found(request: pytest.FixtureRequest) -> tuple[Calibrated, list[Tensor], Learned]:
    start, inputs = case(request.param)
    return start, inputs, learn_rounding(start, inputs, FEW)


def integers(calibrated: Calibrated, flavour: str) -> dict[str, IntegerConv2d]:
    modules = calibrated.render(flavour).named_modules()
    return {name: module for name, module in modules if isinstance(module, IntegerConv2d)}


def test_each_weight_goes_to_a_neighbouring_grid_point(found: tuple[Calibrated, list[Tensor], Learned]) -> None:
    start, _, learned = found
    assert learned.kept
    assert learned.tried == len(place(start.traced, "cpu").convs)
    before, after = integers(start, "cpu"), integers(learned.calibrated, "cpu")
    for name, conv in after.items():
        moved = (conv.integers.int() - before[name].integers.int()).abs()
        assert moved.max() <= 1
        assert bool(moved.any()) == (name in learned.kept)
        torch.testing.assert_close(conv.weight_scale, before[name].weight_scale, rtol=1e-6, atol=0)
        weight = learned.calibrated.traced.get_submodule(name).weight
        steps = weight / conv.weight_scale.reshape(-1, 1, 1, 1)
        off_grid = (steps - conv.integers).abs().max()
        assert off_grid < 1e-3 or name not in learned.kept


def test_the_flavours_share_the_integers(found: tuple[Calibrated, list[Tensor], Learned]) -> None:
    one, other = (integers(found[2].calibrated, flavour) for flavour in FLAVOURS)
    assert all(torch.equal(one[name].integers, other[name].integers) for name in one)


def test_kept_layers_have_less_error_on_held_out_pictures(found: tuple[Calibrated, list[Tensor], Learned]) -> None:
    assert all(left < 1 for left in found[2].kept.values())


def test_the_start_is_left_as_it_was() -> None:
    start, inputs = case(TINY)
    before = {name: value.clone() for name, value in start.traced.state_dict().items()}
    learn_rounding(start, inputs, RoundingOptions(iterations=5, patches=64))
    assert all(torch.equal(value, before[name]) for name, value in start.traced.state_dict().items())


class Layers(nn.Module):
    """One rounded convolution of channels that say nearly the same, so that roundings can make up for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = F.relu(self.second(F.relu(self.first(x))))
        return result


def test_it_gains_where_inputs_go_together() -> None:
    torch.manual_seed(0)
    traced = fx.symbolic_trace(Layers().eval())
    inputs = [torch.rand(1, 1, 24, 24).expand(-1, 6, -1, -1) + 0.01 * torch.rand(1, 6, 24, 24) for _ in range(4)]
    start = Calibrated(traced, observe_ranges(traced, inputs, "max"))
    learned = learn_rounding(start, inputs, RoundingOptions(iterations=200, patches=512, learning_rate=0.05))
    assert learned.kept["first"] < 0.6
