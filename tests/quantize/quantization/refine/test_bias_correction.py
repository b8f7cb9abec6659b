"""Corrected biases take off what rounding adds on average, in both variants together."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, fx

from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.quantizer import IntegerConv2d
from blendmask_quantize.quantization.refine.bias_correction import correct_biases
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import DEEPLAB, LITE, image, network_input, size_of, slow, small_network
from tests.quantize.tiny import TINY


def case(config: ModelConfig) -> tuple[fx.GraphModule, list[Tensor]]:
    model = small_network(config)
    return trace_network(model), [network_input(model, image(seed, size_of(config))) for seed in range(4)]


@dataclass(frozen=True)
class Corrected:
    """A network with its ranges, the same with corrected biases, the inputs, and the weights that it had before."""

    start: Calibrated
    after: Calibrated
    inputs: list[Tensor]
    before: dict[str, Tensor]


@functools.cache
def corrected(config: ModelConfig) -> Corrected:
    traced, inputs = case(config)
    before = copy.deepcopy(traced.state_dict())
    start = Calibrated(traced, observe_ranges(traced, inputs, "percentile"))
    return Corrected(start, correct_biases(start, traced, inputs), inputs, before)


def means(predictions: Predictions) -> Tensor:
    """Mean of every basis: what nothing rounds any more and no head computes."""
    return predictions.bases.mean(dim=(0, 2, 3))


@pytest.mark.parametrize("config", [TINY, *slow(LITE, DEEPLAB)], ids=lambda config: config.name)
def test_the_results_agree_on_average_afterwards(config: ModelConfig) -> None:
    found = corrected(config)
    batch = torch.cat(found.inputs)
    with torch.no_grad():
        expected = means(found.start.traced(batch))
        before, after = (
            (torch.stack([means(one.render(variant)(batch)) for variant in VARIANTS]).mean(dim=0) - expected).abs()
            for one in (found.start, found.after)
        )
    assert after.sum() < 0.35 * before.sum()


def test_only_biases_change_and_they_are_common_to_the_variants() -> None:
    found = corrected(TINY)
    before, after = found.before, found.after
    assert all(torch.equal(value, before[name]) for name, value in found.start.traced.state_dict().items())
    changed = {name for name, value in after.traced.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.endswith(".bias") for name in changed)
    assert not any(name.startswith("proposal_generator") for name in changed)
    assert any(name.startswith("basis_module") for name in changed)
    assert after.ranges == found.start.ranges
    modules = dict(after.render("cpu").named_modules())
    for name, conv in after.render("tensorrt").named_modules():
        if isinstance(conv, IntegerConv2d):
            other = modules[name]
            assert isinstance(other, IntegerConv2d)
            assert torch.equal(conv.integers, other.integers)
            torch.testing.assert_close(other.bias * other.bias_scale, conv.bias, rtol=0, atol=other.bias_scale.max())


def test_a_network_without_rounding_errors_is_left_alone() -> None:
    traced, inputs = case(TINY)
    exact = Calibrated(traced, observe_ranges(traced, inputs, "max"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Calibrated, "render", lambda self, _: copy.deepcopy(self.traced))
        unchanged = correct_biases(exact, traced, inputs)
    for name, value in unchanged.traced.state_dict().items():
        torch.testing.assert_close(value, traced.state_dict()[name])
