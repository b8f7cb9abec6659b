"""Quick depthwise gradients are those of the ordinary convolution, up to bfloat16's rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from blendmask_quantize.model.layers import SameConv2d
from blendmask_quantize.training.depthwise import quick_depthwise

CONVS = {
    "half padding": lambda bias: nn.Conv2d(6, 6, 5, 1, 2, groups=6, bias=bias),
    "strided": lambda bias: nn.Conv2d(6, 6, 3, 2, 1, groups=6, bias=bias),
    "same padding": lambda bias: SameConv2d(6, 6, 5, 2, groups=6, bias=bias),
    "two a channel": lambda bias: nn.Conv2d(6, 12, 3, groups=6, bias=bias),
}


def gradients(conv: nn.Conv2d, x: Tensor, *, mixed: bool) -> dict[str, Tensor]:
    """Result and gradients of a weighted sum of it."""
    conv.zero_grad()
    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        y = conv(leaf)
    (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    computed = {"x": leaf.grad} | {name: p.grad.clone() for name, p in conv.named_parameters()}
    return computed | {"y": y.detach()}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CONVS)
def test_mixed_precision_agrees_with_float32(name, bias):
    torch.manual_seed(0)
    conv = CONVS[name](bias)
    x = torch.randn(2, 6, 16, 16)
    exact = gradients(conv, x, mixed=False)
    with quick_depthwise(nn.Sequential(conv)):
        quick = gradients(conv, x, mixed=True)
    assert quick["y"].dtype == torch.bfloat16
    assert quick.keys() == exact.keys()
    for key, value in exact.items():
        assert (quick[key].float() - value).abs().max() < 0.02 * value.abs().max(), key


def test_float32_is_left_alone():
    torch.manual_seed(0)
    conv = CONVS["half padding"](True)
    x = torch.randn(2, 6, 16, 16)
    exact = gradients(conv, x, mixed=False)
    with quick_depthwise(nn.Sequential(conv)):
        same = gradients(conv, x, mixed=False)
    assert all(torch.equal(same[key], value) for key, value in exact.items())


def test_afterwards_everything_is_as_before():
    model = nn.Sequential(CONVS["strided"](False), nn.Conv2d(6, 4, 1))
    before = {name: dict(module.__dict__) for name, module in model.named_modules()}
    with quick_depthwise(model):
        assert "_conv_forward" in model[0].__dict__
        assert "_conv_forward" not in model[1].__dict__
    assert {name: dict(module.__dict__) for name, module in model.named_modules()} == before
