"""The network that trains with quantizers is the one that is rendered, before training and after."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.qat.fake_quantizers import (
    FakeQuantNetwork,
    RoundedConv2d,
    TrainableQuantizer,
    stage_names,
)
from blendmask_quantize.quantization.quantizer import (
    ActivationQuantizer,
    IntegerConv2d,
    activation_qparams,
    weight_scales,
)
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.tiny import tiny_model


@pytest.fixture(scope="module")
def model() -> BlendMask:
    return tiny_model()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn((2, 3, 64, 96), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def start(model: BlendMask, x: Tensor) -> Calibrated:
    traced = trace_network(model)
    return Calibrated(traced, observe_ranges(traced, x.split(1), "max"))


def tensors(predictions: Predictions) -> list[Tensor]:
    levels = (predictions.logits, predictions.regression, predictions.centerness, predictions.towers)
    return [tensor for part in levels for tensor in part] + [predictions.bases]


def assert_same_up_to_ties(result: Predictions, expected: Predictions) -> None:
    """One value that falls on the other side of a tie moves all that read it, by little; another scale moves all."""
    off: list[Tensor] = []
    for one, other in zip(tensors(result), tensors(expected), strict=True):
        off.append(((one - other).abs() > 1e-5 * other.abs().max()).flatten())
        torch.testing.assert_close(one, other, rtol=0, atol=0.05 * other.abs().max().item())
    assert torch.cat(off).float().mean() < 0.3


def total(network: FakeQuantNetwork, x: Tensor, variants: tuple[str, ...] = VARIANTS) -> Tensor:
    return sum((t.square().mean() for f in variants for t in tensors(network(x, f))), torch.zeros(()))


@pytest.mark.parametrize("variant", VARIANTS)
def test_untrained_it_computes_what_ptq_computes(start: Calibrated, x: Tensor, variant: str) -> None:
    network = FakeQuantNetwork(start, VARIANTS)
    with torch.no_grad():
        assert_same_up_to_ties(network(x, variant), start.render(variant)(x))


@pytest.mark.slow
def test_after_steps_its_weights_and_ranges_render_to_what_was_trained(start: Calibrated, x: Tensor) -> None:
    network = FakeQuantNetwork(start, VARIANTS)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        total(network, x).backward()
        optimizer.step()
    with torch.no_grad():
        for variant in VARIANTS:
            trained, rendered = network(x, variant), network.calibrated().render(variant)(x)
            assert_same_up_to_ties(trained, rendered)
            assert (trained.bases - start.render(variant)(x).bases).abs().max() > 0.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_nearly_dead_channel_is_trained_as_it_is_rendered(variant: str) -> None:
    # In double precision, so that what such a weight adds to its bias is seen.
    conv = torch.nn.Conv2d(1, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.fill_(1e-7)
        conv.bias.fill_(60)  # type: ignore[union-attr]
        qparams, growth = activation_qparams(0.0, 1.0, variant), torch.nn.Parameter(torch.tensor(0.3))
        high = growth.exp().item()
        trained = RoundedConv2d(conv, TrainableQuantizer(qparams, growth), 1.0, integer_bias=variant == "cpu")
        scale = weight_scales(conv.weight, conv.bias, high)
        rendered = IntegerConv2d(conv, scale, qparams.scale * high if variant == "cpu" else None)
        x = torch.ones((1, 1, 1, 1), dtype=torch.float64)
        assert trained(x).item() - trained(0 * x).item() == rendered(x).item() - rendered(0 * x).item()
        assert trained(x).item() == pytest.approx(60, rel=1e-6)


def test_every_weight_and_range_has_a_gradient(start: Calibrated, x: Tensor) -> None:
    network = FakeQuantNetwork(start, VARIANTS)
    total(network, x).backward()
    used = {point for f in VARIANTS for point in _ranges_used(network, f)}
    silent = [name for name, p in network.weights.named_parameters() if p.grad is None or not p.grad.any()]
    silent += [name for name in used if not network.log_growth[name].grad]
    assert silent == []


def _ranges_used(network: FakeQuantNetwork, variant: str) -> set[str]:
    names = {id(parameter): name for name, parameter in network.log_growth.items()}
    modules = network.networks[variant].modules()
    return {names[id(m.log_growth)] for m in modules if isinstance(m, TrainableQuantizer)}


def test_frozen_stages_and_the_ranges_before_them_are_left_alone(
    model: BlendMask, start: Calibrated, x: Tensor
) -> None:
    network = FakeQuantNetwork(start, VARIANTS, stage_names(model, 2))
    total(network, x).backward()
    frozen = {name for name, p in network.named_parameters() if p.grad is None and "log_growth" not in name}
    assert frozen == {n for n, _ in network.named_parameters() if ".stem." in n or ".res2." in n}
    ranges = {name for name, p in network.log_growth.items() if not p.requires_grad}
    assert "x" in ranges
    assert "backbone_bottom_up_res2_1_conv3_conv" in ranges
    assert not any("res3" in name or "fpn" in name for name in ranges)


def test_both_variants_see_the_same_weights(start: Calibrated, x: Tensor) -> None:
    network = FakeQuantNetwork(start, VARIANTS)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        before = {variant: network(x, variant).bases for variant in VARIANTS}
        next(copied.weights.parameters()).mul_(2)
        for variant in VARIANTS:
            assert torch.equal(network(x, variant).bases, before[variant])
            assert not torch.allclose(copied(x, variant).bases, before[variant])


def test_what_it_starts_from_stays_as_it_is(start: Calibrated, x: Tensor) -> None:
    before = {name: value.clone() for name, value in start.traced.state_dict().items()}
    network = FakeQuantNetwork(start, ("tensorrt",))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    total(network, x, ("tensorrt",)).backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in start.traced.state_dict().items())
    assert not any(p.requires_grad for p in network.calibrated().traced.parameters())


values = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=30)


@given(values, st.floats(0.125, 6, width=32), st.booleans(), st.sampled_from(VARIANTS))
def test_it_rounds_as_the_rendered_quantizer_does(xs: list[float], high: float, signed: bool, variant: str) -> None:
    qparams = activation_qparams(-high if signed else 0.0, high, variant)
    x = torch.tensor(xs)
    trained = TrainableQuantizer(qparams, torch.nn.Parameter(torch.zeros(())))(x)
    assert torch.equal(trained, ActivationQuantizer(qparams)(x))


def test_the_gradient_passes_inside_the_range_and_goes_to_the_range_outside() -> None:
    quantizer = TrainableQuantizer(activation_qparams(-1.27, 1.27, "tensorrt"), torch.nn.Parameter(torch.zeros(())))
    x = torch.tensor([0.504, 3.0], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 0.0]
    # Inside: the rounded value minus the value; outside: the end of the range.
    assert quantizer.log_growth.grad is not None
    assert quantizer.log_growth.grad.item() == pytest.approx((0.50 - 0.504) + 1.27, abs=1e-5)


def test_a_wider_range_clips_less() -> None:
    quantizer = TrainableQuantizer(activation_qparams(0, 1.0, "cpu"), torch.nn.Parameter(torch.tensor(2.0).log()))
    assert quantizer(torch.tensor([5.0])).item() == pytest.approx(2.0)
