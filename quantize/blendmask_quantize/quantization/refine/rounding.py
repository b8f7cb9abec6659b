"""Which way each weight is rounded, chosen layer by layer from what the float layer computes.

The chosen integers, times the scale, become the float weights, so that nearest rounding gives them again: the integers
are common to all variants, and nothing else has to know how they came about. A layer keeps its new rounding only where
its error on held-out images falls. `adaround` and `coordinate_descent` are two ways to find it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from blendmask_quantize.model.layers import SameConv2d
from blendmask_quantize.quantization.nodes import activation_cap, conv_of, fused_activation
from blendmask_quantize.quantization.placement import place, rounding_of
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.quantizer import weight_scales

LARGEST_STEP = 127


@dataclass(frozen=True)
class Sampling:
    """The samples that each convolution is optimized on.

    Attributes:
        patches: places of its output that are looked at, of all images together; a quarter of them, of other
            images, decide whether the layer keeps its new rounding.
        seed: of the choice of places.
    """

    patches: int = 2048
    seed: int = 0


@dataclass(frozen=True)
class Patches:
    """Inputs of a convolution at P locations, and what follows it.

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


@dataclass(frozen=True)
class WeightQparams:
    """The weight of a convolution and the scale by which it is rounded.

    Attributes:
        weight: (groups, C' / groups, C / groups * taps), float.
        step: (groups, C' / groups, 1), one integer.
        bias: (groups, 1, C' / groups).
    """

    weight: Tensor
    step: Tensor
    bias: Tensor

    @property
    def nearest(self) -> Tensor:
        """Steps of every weight, rounded to nearest."""
        return torch.round(self.weight / self.step)

    @property
    def free(self) -> Tensor:
        """Which weights may go elsewhere.

        The largest of a channel makes its step, so it keeps its integer. A weight that is zero was pruned.
        """
        return (self.nearest.abs() < LARGEST_STEP) & (self.weight != 0)


Find = Callable[[WeightQparams, Patches], Tensor]
"""Finds the steps of every weight, whole numbers in the shape of `WeightQparams.weight`."""


@dataclass(frozen=True)
class Rounded:
    """The result of rounding.

    Attributes:
        calibrated: with the weights at the chosen integers.
        changed: names of the convolutions whose rounding is another now, with the share of their held-out error left.
        tried: how many convolutions were tried.
    """

    calibrated: Calibrated
    changed: dict[str, float]
    tried: int


def find_roundings(
    start: Calibrated, inputs: Sequence[Tensor], find: Find, sampling: Sampling | None = None
) -> Rounded:
    """The same network with the roundings of every convolution that gains by it chosen by `find`.

    Args:
        start: float weights and ranges.
        inputs: normalized images (1, 3, H, W).
        find: how.
        sampling: what it is shown.
    """
    finder = _Finder(start, find, sampling or Sampling())
    with torch.no_grad():
        finder.run(torch.cat(list(inputs)))
    return Rounded(Calibrated(finder.rounded, start.ranges), finder.changed, finder.tried)


class _Finder(fx.Interpreter):
    """Runs the float network on a batch and finds the roundings of each convolution on its way."""

    def __init__(self, start: Calibrated, find: Find, sampling: Sampling) -> None:
        super().__init__(start.traced)
        self.start, self.find, self.sampling = start, find, sampling
        placement = place(start.traced, "cpu")
        self.points = {point.node: point for point in placement.points}
        self.convs = set(placement.convs)
        self.rounded = copy.deepcopy(start.traced)
        self.changed: dict[str, float] = {}
        self.tried = 0

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self.convs:
            self._round(n, self.env[n.all_input_nodes[0]])
        return super().run_node(n)

    def _round(self, node: fx.Node, x: Tensor) -> None:
        conv = conv_of(self.start.traced, node)
        activation = fused_activation(self.start.traced, node)
        cap = None if activation is None else activation_cap(self.start.traced, activation)
        point = rounding_of(self.start.traced, node.all_input_nodes[0], self.points)
        assert point is not None, "what an 8-bit convolution reads is rounded"
        qparams = _qparams(conv, weight_scales(conv.weight, conv.bias, self.start.ranges[point.range_of].high))
        shown, held_out = _sample(conv, x, cap, self.sampling)
        self.tried += 1
        weight = torch.where(qparams.free, self.find(qparams, shown), qparams.nearest) * qparams.step
        left = _error_left(qparams, weight, held_out)
        if left < 1:
            conv_of(self.rounded, node).weight.copy_(weight.flatten(0, 1).reshape(conv.weight.shape))
            self.changed[str(node.target)] = left


def _qparams(conv: nn.Conv2d, scale: Tensor) -> WeightQparams:
    grouped = (conv.groups, conv.out_channels // conv.groups)
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
    weight = conv.weight.detach().flatten(1).unflatten(0, grouped)
    return WeightQparams(weight, scale.reshape(*grouped, 1), bias.reshape(conv.groups, 1, -1))


def _error_left(qparams: WeightQparams, weight: Tensor, held_out: Patches) -> float:
    """Square error of a weight on patches over that of nearest rounding."""
    expected = held_out.results(qparams.weight, qparams.bias)
    candidates = (weight, qparams.nearest * qparams.step)
    after, before = ((held_out.results(w, qparams.bias) - expected).square().mean().item() for w in candidates)
    return after / before if before > 0 else 1.0


def _sample(conv: nn.Conv2d, x: Tensor, cap: float | None, sampling: Sampling) -> tuple[Patches, Patches]:
    """Patches of the first images to be shown, and of the last quarter, one at least, held out; of one image, both."""
    held_out = max(1, len(x) // 4)
    generator = torch.Generator().manual_seed(sampling.seed)
    parts = zip(
        (x[:-held_out] if len(x) > 1 else x, x[-held_out:]),
        (3 * sampling.patches // 4, sampling.patches // 4),
        strict=True,
    )
    first, second = (_patches(conv, part, max(1, count // len(part)), generator) for part, count in parts)
    return Patches(first, cap), Patches(second, cap)


def _patches(conv: nn.Conv2d, x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Inputs of `conv` at `count` locations of each image (N, C, H, W): (groups, N * count, C / groups * taps)."""
    padded = F.pad(x, _pads(conv))
    (high, wide), (tall, broad) = padded.shape[2:], conv.kernel_size
    down, right = (
        torch.arange(size) * dilation for size, dilation in zip(conv.kernel_size, conv.dilation, strict=True)
    )
    rows = (high - conv.dilation[0] * (tall - 1) - 1) // conv.stride[0] + 1
    columns = (wide - conv.dilation[1] * (broad - 1) - 1) // conv.stride[1] + 1
    taps = (down[:, None] * wide + right).flatten()
    gathered = []
    for image in padded.flatten(2):
        y = torch.randint(rows, (count,), generator=generator) * conv.stride[0]
        at = y * wide + torch.randint(columns, (count,), generator=generator) * conv.stride[1]
        gathered.append(image[:, at[:, None] + taps])
    reads = torch.cat(gathered, dim=1).unflatten(0, (conv.groups, -1))
    return reads.transpose(1, 2).flatten(2).contiguous()


def _pads(conv: nn.Conv2d) -> tuple[int, ...]:
    """Left, right, top, bottom."""
    if isinstance(conv, SameConv2d):
        return conv.pads
    top, left = (int(pad) for pad in conv.padding)
    return left, left, top, top
