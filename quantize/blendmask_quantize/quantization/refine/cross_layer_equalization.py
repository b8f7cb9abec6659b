"""Cross-layer equalization: channels of a tensor made alike, so that one range suits them all.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019, section 4.1): a
channel may be divided by any positive factor in the convolution that makes it, and multiplied by it in those that read
it, across whatever is positively homogeneous. They balance the weights of both sides, for weights that share one scale
a layer. Here each output channel has its own, so that the making side gains nothing; what shares a scale is the tensor
in between, and the input channels of its readers. Those are balanced: the factors follow from the largest activations
that images show, as in SmoothQuant (Xiao et al., ICML 2023, equation 4), and their exponent is chosen for each tensor
by the expected rounding error of the readers' results.

ReLU6 is homogeneous only below its cap. A cap a channel would be exact, but is an operator that no runtime fuses behind
an integer convolution. So behind a cap channels only grow, and none beyond half of it by what the images show: the
network computes the same until an activation is twice as large as any seen, where ranges, which are what images show
too, would clip it anyway.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from blendmask_quantize.quantization.nodes import activation_cap, conv_of, kind

_HOMOGENEOUS = ("relu", "nearest", "bilinear", "max_pool", "mean")
_EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_MOST = 2.0**8
"""No factor lies beyond this or below its inverse: a channel that needs more is as good as dead."""
_ROOM = 2.0
"""Behind a cap, how many times the largest activation seen must stay below it."""
_STEPS = 255
_WEIGHT_STEPS = 127


@dataclass(frozen=True)
class Chain:
    """A tensor whose channels may be scaled.

    Attributes:
        maker: node of the convolution that makes it.
        between: names of the nodes that carry it, the maker's first.
        readers: nodes of the convolutions that read it, and nothing else does.
        cap: what the activations on its way let through at most.
    """

    maker: fx.Node
    between: tuple[str, ...]
    readers: tuple[fx.Node, ...]
    cap: float

    @property
    def tensor(self) -> str:
        """Name of the node behind the activation, where there is one: what the readers' range is of."""
        return self.between[1] if len(self.between) > 1 else self.between[0]


@dataclass(frozen=True)
class ChannelStatistics:
    """Statistics of the channels of a tensor over images.

    Attributes:
        largest: (C,), magnitude.
        power: (C,), mean square.
    """

    largest: Tensor
    power: Tensor


@dataclass(frozen=True)
class Equalized:
    """A network that computes what it did before.

    Attributes:
        traced: with scaled weights and biases.
        changed: names of the nodes whose results have other channels now.
        tensors: how many tensors were equalized; several nodes may carry one.
    """

    traced: fx.GraphModule
    changed: frozenset[str]
    tensors: int


@torch.no_grad()
def equalize(traced: fx.GraphModule, inputs: Iterable[Tensor]) -> Equalized:
    """A copy of a float network with the channels of every possible tensor equalized.

    Args:
        traced: from `trace_network`.
        inputs: normalized images (N, 3, H, W), a few.
    """
    scaled = copy.deepcopy(traced)
    chains = find_chains(scaled)
    statistics = _channel_statistics(scaled, {chain.tensor for chain in chains}, inputs)
    changed: list[tuple[str, ...]] = []
    for chain in chains:
        weights = [_by_input(conv_of(scaled, node)) for node in chain.readers]
        factors = best_factors(statistics[chain.tensor], weights, chain.cap)
        if not torch.all(factors == 1):
            _scale(scaled, chain, factors)
            changed.append(chain.between)
    return Equalized(scaled, frozenset().union(*changed), len(changed))


def find_chains(traced: fx.GraphModule) -> list[Chain]:
    """Every tensor that a convolution makes and only convolutions read, across positively homogeneous operators."""
    chains = []
    for node in traced.graph.nodes:
        if kind(traced, node) != "conv":
            continue
        tail = _follow(traced, node)
        if tail is not None:
            chains.append(Chain(node, *tail))
    return chains


def best_factors(statistics: ChannelStatistics, readers: list[Tensor], cap: float = math.inf) -> Tensor:
    """Factor (C,) of each channel, by which its maker is divided and its readers are multiplied.

    Args:
        statistics: of the tensor.
        readers: weights (C', C, taps) of the convolutions that read it, 0 where a group does not.
        cap: what the activation lets through at most.
    """
    columns = torch.stack([(w.abs().amax(dim=2) / _row_largest(w)).amax(dim=0) for w in readers]).amax(dim=0)
    alive = (statistics.largest > 0) & (columns > 0)
    if not alive.any():
        return torch.ones_like(columns)
    tried = [_factors(statistics.largest, columns, alive, exponent, cap) for exponent in _EXPONENTS]
    errors = [sum(_expected_error(statistics, w, factors) for w in readers) for factors in tried]
    untouched = torch.ones_like(columns)
    least = min(range(len(tried)), key=lambda i: float(errors[i]))
    before = sum(_expected_error(statistics, w, untouched) for w in readers)
    return tried[least] if errors[least] < before else untouched


def _follow(traced: fx.GraphModule, maker: fx.Node) -> tuple[tuple[str, ...], tuple[fx.Node, ...], float] | None:
    """Nodes that carry what `maker` makes, its readers, and the cap; None where more than convolutions read it."""
    between, readers, waiting, cap = [maker.name], [], list(maker.users), math.inf
    while waiting:
        node = waiting.pop(0)
        what = kind(traced, node)
        if what == "conv":
            readers.append(node)
        elif what in _HOMOGENEOUS:
            between.append(node.name)
            waiting += list(node.users)
            cap = min(cap, activation_cap(traced, node)) if what == "relu" else cap
        else:
            return None
    return tuple(between), tuple(readers), cap


def _by_input(conv: nn.Conv2d) -> Tensor:
    """The weight as (C', C, taps) over all input channels; 0 where the groups do not connect."""
    weight, groups = conv.weight.detach().flatten(2), conv.groups
    if groups == 1:
        return weight
    whole = weight.new_zeros(groups, conv.out_channels // groups, groups, *weight.shape[1:])
    index = torch.arange(groups)
    whole[index, :, index] = weight.unflatten(0, (groups, -1))
    return whole.flatten(2, 3).flatten(0, 1)


def _row_largest(weight: Tensor) -> Tensor:
    """(C', 1), the largest magnitude of each output channel, above 0."""
    return weight.abs().amax(dim=(1, 2)).clamp(min=torch.finfo(weight.dtype).tiny)[:, None]


def _factors(largest: Tensor, columns: Tensor, alive: Tensor, exponent: float, cap: float) -> Tensor:
    """Activations and weights move by `exponent` towards equal activations, and by the rest towards equal weights."""
    logs = exponent * torch.log2(largest[alive]) - (1 - exponent) * torch.log2(columns[alive])
    factors = torch.ones_like(largest)
    if cap == math.inf:
        factors[alive] = torch.exp2(logs - logs.median()).clamp(1 / _MOST, _MOST)
    else:
        least = (_ROOM * largest[alive] / cap).clamp(1 / _MOST, 1)
        factors[alive] = torch.maximum(torch.exp2(logs - logs.max()), least)
    return factors


def _expected_error(statistics: ChannelStatistics, weight: Tensor, factors: Tensor) -> Tensor:
    """Error of a reader's results over their power, from rounding its input and its weight, as if independent."""
    squares = weight.square().sum(dim=2)
    scaled = weight * factors[None, :, None]
    step = (statistics.largest / factors).amax() / _STEPS
    from_input = step.square() * (squares * factors.square()).sum(dim=1)
    weight_step = _row_largest(scaled)[:, 0] / _WEIGHT_STEPS
    connected = (weight != 0).sum(dim=2).to(weight.dtype)
    from_weight = weight_step.square() * (connected * (statistics.power / factors.square())).sum(dim=1)
    power = (squares * statistics.power).sum(dim=1)
    lives = power > 0
    return ((from_input + from_weight)[lives] / power[lives]).mean() if lives.any() else power.sum()


def _scale(traced: fx.GraphModule, chain: Chain, factors: Tensor) -> None:
    maker = conv_of(traced, chain.maker)
    maker.weight.div_(factors[:, None, None, None])
    if maker.bias is not None:
        maker.bias.div_(factors)
    for node in chain.readers:
        conv = conv_of(traced, node)
        groups = factors.reshape(conv.groups, 1, -1).expand(-1, conv.out_channels // conv.groups, -1)
        conv.weight.mul_(groups.flatten(0, 1)[:, :, None, None])


def _channel_statistics(
    traced: fx.GraphModule, names: set[str], inputs: Iterable[Tensor]
) -> Mapping[str, ChannelStatistics]:
    watch = _Watch(traced, names)
    for x in inputs:
        watch.run(x)
    return dict(watch.statistics())


class _Watch(fx.Interpreter):
    """Runs a network and remembers the channels of the chosen results."""

    def __init__(self, traced: fx.GraphModule, names: set[str]) -> None:
        super().__init__(traced)
        self.names = names
        self.largest: dict[str, Tensor] = {}
        self.squares: dict[str, list[Tensor]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.names:
            largest = result.abs().amax(dim=(0, 2, 3))
            self.largest[n.name] = torch.maximum(self.largest.get(n.name, largest), largest)
            self.squares.setdefault(n.name, []).append(result.square().mean(dim=(0, 2, 3)))
        return result

    def statistics(self) -> Iterator[tuple[str, ChannelStatistics]]:
        for name, largest in self.largest.items():
            yield name, ChannelStatistics(largest, torch.stack(self.squares[name]).mean(dim=0))
