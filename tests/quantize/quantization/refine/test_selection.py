"""An estimator is chosen by what its range does to the results of a tensor's readers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, fx, nn

from blendmask_calibration.estimators import ESTIMATORS, Estimator, Range
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.quantization.placement import calibration_points
from blendmask_quantize.quantization.ptq import estimate, observe
from blendmask_quantize.quantization.refine.selection import FIRST, choose_ranges
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import LITE, image, network_input, size_of, small_network
from tests.quantize.tiny import TINY


def up_to(high: float) -> Estimator:
    return lambda _, __: Range(0.0, high)


class Weighing(nn.Module):
    """Sums channels; what the outlying one says counts, or does not."""

    def __init__(self, outlier_weight: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.second = nn.Conv2d(3, 1, 1, bias=False)
        self.third = nn.Conv2d(1, 1, 1, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(3)[:, :, None, None])
            self.second.weight.copy_(torch.tensor([1.0, 1.0, outlier_weight]).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.third(self.second(torch.relu(self.first(x))))
        return result


@pytest.mark.parametrize("weight, best", [(1.0, "wide"), (1e-4, "narrow")])
def test_the_range_is_wide_where_the_readers_need_the_outlier(weight: float, best: str) -> None:
    traced = fx.symbolic_trace(Weighing(weight).eval())
    x = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    x[:, 2] *= 300
    histograms = observe(traced, [x])
    choices = choose_ranges(traced, histograms, {"wide": up_to(300.0), "narrow": up_to(1.0)}, [x])
    assert choices["relu"].estimator == best
    assert choices["relu"].errors[best] == min(choices["relu"].errors.values())


@pytest.mark.parametrize("config", [TINY, pytest.param(LITE, marks=pytest.mark.slow)], ids=lambda config: config.name)
def test_every_tensor_takes_the_range_of_the_estimator_it_names(config: ModelConfig) -> None:
    model = small_network(config)
    traced = trace_network(model)
    inputs = [network_input(model, image(seed, size_of(model.config))) for seed in range(1)]
    histograms = observe(traced, inputs)
    choices = choose_ranges(traced, histograms, ESTIMATORS, inputs)
    assert set(choices) == {point.node for point in calibration_points(traced)}
    ranges = {name: estimate(traced, histograms, name) for name in ESTIMATORS}
    for tensor, choice in choices.items():
        assert choice.range == ranges[choice.estimator][tensor]
        assert choice.errors[choice.estimator] <= choice.errors[FIRST]
        assert min(choice.errors.values()) > 0


def test_without_a_clear_winner_a_tensor_takes_the_first() -> None:
    traced = trace_network(small_network(TINY))
    x = network_input(small_network(TINY), image(0))
    same = dict.fromkeys(["max", FIRST, "other"], ESTIMATORS["max"])
    choices = choose_ranges(traced, observe(traced, [x]), same, [x])
    assert {choice.estimator for choice in choices.values()} == {FIRST}
