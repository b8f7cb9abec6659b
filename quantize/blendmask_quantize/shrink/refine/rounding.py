"""AdaRound: which way each weight is rounded, learned layer by layer from what the float layer computes.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (ICML 2020, sections 3.2, 3.3): a relaxed
rounding between 0 and 1 for every weight, driven to either end while the layer's result, behind its activation, stays
close to the float one. The chosen grid points become the float weights, so that nearest rounding gives them again: the
integers are common to all flavours, and nothing else has to know how they came about.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from blendmask_quantize.model.layers import SameConv2d
from blendmask_quantize.shrink.nodes import activation_cap, conv_of, fused_activation
from blendmask_quantize.shrink.placement import place, rounding_of
from blendmask_quantize.shrink.ptq import Calibrated
from blendmask_quantize.shrink.quantizer import weight_scales

_STRETCH = (-0.1, 1.1)
"""Ends of the stretched sigmoid (equation 23), so that a rounding can reach 0 and 1."""
_WARM_UP = 0.2
"""Share of the steps before roundings are driven to either end."""
_SHARPNESS = (20.0, 2.0)
"""Exponent of the term that drives them, at first and at last (equation 24)."""


@dataclass(frozen=True)
class RoundingOptions:
    """How roundings are learned.

    Attributes:
        iterations: steps of Adam for each convolution.
        patches: places of each convolution's output that are looked at, of all pictures together; a quarter of them,
            of other pictures, judge whether the layer keeps what was learned.
        learning_rate: of Adam.
        weight: of the term that drives roundings to 0 or 1.
        seed: of the choice of places.
    """

    iterations: int = 300
    patches: int = 2048
    learning_rate: float = 0.02
    weight: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Learned:
    """What came of it.

    Attributes:
        calibrated: with the weights on the chosen grid points.
        kept: names of the convolutions whose learned rounding is kept, with the share of their held-out error left.
        tried: how many convolutions were tried.
    """

    calibrated: Calibrated
    kept: dict[str, float]
    tried: int


def learn_rounding(start: Calibrated, inputs: Sequence[Tensor], options: RoundingOptions | None = None) -> Learned:
    """The same network with the rounding of every convolution that gains by it learned.

    Args:
        start: float weights and ranges.
        inputs: normalised pictures (1, 3, H, W), at least two.
        options: how.
    """
    learner = _Learner(start, options or RoundingOptions())
    with torch.no_grad():
        learner.run(torch.cat(list(inputs)))
    return Learned(Calibrated(learner.rounded, start.ranges), learner.kept, learner.tried)


@dataclass(frozen=True)
class _Patches:
    """What a convolution reads at P places, and how its result goes on.

    Attributes:
        reads: (groups, P, C / groups * taps).
        cap: what the activation that follows lets through at most; None where there is none.
    """

    reads: Tensor
    cap: float | None

    def results(self, weight: Tensor, bias: Tensor) -> Tensor:
        """(groups, P, C' / groups) of a weight (groups, C' / groups, C / groups * taps) and bias (groups, 1, ...)."""
        result = torch.baddbmm(bias, self.reads, weight.transpose(1, 2))
        return result if self.cap is None else result.clamp(0, self.cap)


class _Learner(fx.Interpreter):
    """Runs the float network on a batch and learns the rounding of each convolution on its way."""

    def __init__(self, start: Calibrated, options: RoundingOptions) -> None:
        super().__init__(start.traced)
        self.start, self.options = start, options
        placement = place(start.traced, "cpu")
        self.points = {point.node: point for point in placement.points}
        self.convs = set(placement.convs)
        self.rounded = copy.deepcopy(start.traced)
        self.kept: dict[str, float] = {}
        self.tried = 0

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self.convs:
            self._learn(n, self.env[n.all_input_nodes[0]])
        return super().run_node(n)

    def _learn(self, node: fx.Node, x: Tensor) -> None:
        conv = conv_of(self.start.traced, node)
        activation = fused_activation(self.start.traced, node)
        cap = None if activation is None else activation_cap(self.start.traced, activation)
        point = rounding_of(self.start.traced, node.all_input_nodes[0], self.points)
        assert point is not None, "what an 8-bit convolution reads is rounded"
        high = self.start.ranges[point.range_of].high
        scale = weight_scales(conv.weight, conv.bias, high)
        training, held = _sample(conv, x, cap, self.options)
        self.tried += 1
        better = _learned(conv, scale, training, held, self.options)
        if better is not None:
            weight, left = better
            conv_of(self.rounded, node).weight.copy_(weight)
            self.kept[str(node.target)] = left


def _learned(
    conv: nn.Conv2d, scale: Tensor, training: _Patches, held: _Patches, options: RoundingOptions
) -> tuple[Tensor, float] | None:
    """The weight on its chosen grid points and the share of the held-out error left; None where it gains nothing."""
    grouped = (conv.groups, conv.out_channels // conv.groups)
    step = scale.reshape(*grouped, 1)
    weight = conv.weight.detach().flatten(1).unflatten(0, grouped)
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
    bias = bias.reshape(conv.groups, 1, -1)
    down = torch.floor(weight / step)
    nearest = torch.round(weight / step)
    # The largest weight of a channel makes its scale, so it keeps its grid point.
    free = nearest.abs() < 127
    up = _optimise(weight / step - down, free, down, step, bias, training, options)
    chosen = torch.where(free, down + up, nearest).clamp(-127, 127) * step
    expected = held.results(weight, bias)
    errors = [(held.results(w, bias) - expected).square().mean().item() for w in (nearest * step, chosen)]
    if errors[1] >= errors[0]:
        return None
    return chosen.flatten(0, 1).reshape(conv.weight.shape), errors[1] / errors[0]


@torch.enable_grad()
def _optimise(
    fraction: Tensor,
    free: Tensor,
    down: Tensor,
    step: Tensor,
    bias: Tensor,
    patches: _Patches,
    options: RoundingOptions,
) -> Tensor:
    """0 or 1 for every weight: whether it is rounded up. The loss is over the error of nearest rounding."""
    expected = patches.results((down + fraction) * step, bias)
    nearest = (patches.results((down + fraction.round()) * step, bias) - expected).square().mean()
    low, high = _STRETCH
    inside = (fraction - low) / (high - low)
    logits = torch.log(inside / (1 - inside)).requires_grad_(True)
    optimizer = torch.optim.Adam([logits], lr=options.learning_rate)
    for iteration in range(options.iterations):
        up = (torch.sigmoid(logits) * (high - low) + low).clamp(0, 1)
        result = patches.results((down + torch.where(free, up, fraction)) * step, bias)
        loss = (result - expected).square().mean() / nearest.clamp(min=1e-20)
        done = iteration / options.iterations
        if done >= _WARM_UP:
            sharpness = _SHARPNESS[0] + (_SHARPNESS[1] - _SHARPNESS[0]) * (done - _WARM_UP) / (1 - _WARM_UP)
            loss = loss + options.weight * (1 - (2 * up - 1).abs().pow(sharpness)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (logits.detach() > 0).to(fraction.dtype)


def _sample(conv: nn.Conv2d, x: Tensor, cap: float | None, options: RoundingOptions) -> tuple[_Patches, _Patches]:
    """Patches of the first pictures to learn from, and of the last quarter, one at least, to judge by."""
    held = max(1, len(x) // 4)
    generator = torch.Generator().manual_seed(options.seed)
    parts = zip((x[:-held], x[-held:]), (3 * options.patches // 4, options.patches // 4), strict=True)
    first, second = (_patches(conv, part, max(1, count // len(part)), generator) for part, count in parts)
    return _Patches(first, cap), _Patches(second, cap)


def _patches(conv: nn.Conv2d, x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """What `conv` reads at `count` places of each picture (N, C, H, W): (groups, N * count, C / groups * taps)."""
    padded = F.pad(x, _pads(conv))
    (high, wide), (tall, broad) = padded.shape[2:], conv.kernel_size
    down, right = (
        torch.arange(size) * dilation for size, dilation in zip(conv.kernel_size, conv.dilation, strict=True)
    )
    rows = (high - conv.dilation[0] * (tall - 1) - 1) // conv.stride[0] + 1
    columns = (wide - conv.dilation[1] * (broad - 1) - 1) // conv.stride[1] + 1
    taps = (down[:, None] * wide + right).flatten()
    gathered = []
    for picture in padded.flatten(2):
        y = torch.randint(rows, (count,), generator=generator) * conv.stride[0]
        at = y * wide + torch.randint(columns, (count,), generator=generator) * conv.stride[1]
        gathered.append(picture[:, at[:, None] + taps])
    reads = torch.cat(gathered, dim=1).unflatten(0, (conv.groups, -1))
    return reads.transpose(1, 2).flatten(2).contiguous()


def _pads(conv: nn.Conv2d) -> tuple[int, ...]:
    """Left, right, top, bottom."""
    if isinstance(conv, SameConv2d):
        return conv.pads
    top, left = (int(pad) for pad in conv.padding)
    return left, left, top, top
