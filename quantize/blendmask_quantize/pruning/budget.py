"""Which channels to give up for a share of the cost: the least important for what they cost first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.macs import macs_by_layer
from blendmask_quantize.pruning.groups import ChannelGroup
from blendmask_quantize.pruning.options import MACS, NOUNS, PARAMETERS

MULTIPLE = 8
"""Channels come in multiples of this unless another one is asked for; the integer kernels of CPUs and GPUs fill it."""
LEAST_SHARE = 0.25
"""Share of its channels that every group keeps."""
_WIDE = 3
TOLERANCE = 0.02
"""How far the reached number may lie from the one asked for, relative."""


Price = Callable[[str, int, int], float]
"""Cost of a convolution, from its name and its numbers of input and output channels."""


@dataclass(frozen=True)
class _Layer:
    """A convolution and the groups of its channels.

    Attributes:
        name: of the convolution.
        writer: group of its output channels, if these may go.
        read: groups of its input channels that may go, each as often as it is read.
        inputs, outputs: its channels that may not go.
        depthwise: whether each output reads the input of the same number.
    """

    name: str
    writer: int | None
    read: tuple[int, ...]
    inputs: int
    outputs: int
    depthwise: bool

    def channels(self, widths: Sequence[int]) -> tuple[int, int]:
        """Return its input and output channels with `widths`, one a group."""
        outputs = self.outputs if self.writer is None else widths[self.writer]
        return outputs if self.depthwise else self.inputs + sum(widths[index] for index in self.read), outputs


class Cost:
    """Cost of a network as a function of the widths of its channel groups.

    Args:
        model: the network before pruning.
        groups: its groups of channels.
        layers: names of the convolutions that cost something.
        price: of each of them.
        fixed: what does not depend on their widths.
        per_channel: further cost of a channel of each group.
        what: is counted, for messages: "multiply-accumulates".
        multiple: channels in a block, unless another number is asked for.
    """

    def __init__(
        self, model: BlendMask, groups: Sequence[ChannelGroup], layers: Iterable[str], price: Price, *,
        fixed: float = 0, per_channel: Sequence[float] = (), what: str = NOUNS[MACS],
        multiple: int = MULTIPLE,
    ) -> None:  # fmt: skip
        self.what, self.multiple, self._price = what, multiple, price
        self._per_channel = per_channel or [0] * len(groups)
        costed = [_layer(name, model, groups) for name in layers]
        self.layers = [layer for layer in costed if layer.writer is not None or layer.read]
        self._fixed = fixed + sum(self._of(layer, ()) for layer in costed if layer not in self.layers)
        self._touched = [
            [layer for layer in self.layers if index in (layer.writer, *layer.read)] for index in range(len(groups))
        ]

    def total(self, widths: Sequence[int]) -> float:
        """Return the cost with `widths`, one a group."""
        channels = sum(each * width for each, width in zip(self._per_channel, widths, strict=True))
        return self._fixed + channels + sum(self._of(layer, widths) for layer in self.layers)

    def saving(self, widths: Sequence[int], group: int, channels: int) -> float:
        """Return what taking `channels` out of one group saves."""
        thinner = list(widths)
        thinner[group] -= channels
        layers = sum(self._of(layer, widths) - self._of(layer, thinner) for layer in self._touched[group])
        return layers + self._per_channel[group] * channels

    def of_group(self, widths: Sequence[int], group: int) -> float:
        """Return the cost of the layers that make or read a group."""
        return sum(self._of(layer, widths) for layer in self._touched[group])

    def _of(self, layer: _Layer, widths: Sequence[int]) -> float:
        return self._price(layer.name, *layer.channels(widths))


def macs_cost(model: BlendMask, groups: Sequence[ChannelGroup], size: tuple[int, int] | None = None) -> Cost:
    """Return the multiply-accumulates of a network for an input of `size`, the test size if left out."""
    macs = macs_by_layer(model, size)
    layers: dict[str, Any] = dict(model.named_modules())
    a_pair = {name: count // _pairs(layers[name]) for name, count in macs.items()}

    def price(name: str, inputs: int, outputs: int) -> int:
        return a_pair[name] * (outputs if layers[name].groups > 1 else inputs * outputs)

    return Cost(model, groups, macs, price)


def parameters_cost(model: BlendMask, groups: Sequence[ChannelGroup]) -> Cost:
    """Return the number of parameters of a network, trained or frozen."""
    layers: dict[str, Any] = dict(model.named_modules())
    convs = {name: module for name, module in layers.items() if isinstance(module, nn.Conv2d)}

    def price(name: str, inputs: int, outputs: int) -> int:
        conv = convs[name]
        pairs = outputs if conv.groups > 1 else inputs * outputs
        return pairs * conv.weight[0, 0].numel() + (0 if conv.bias is None else outputs)

    per_channel = [
        sum(parameter.numel() for norm in group.norms for parameter in layers[norm].parameters()) / group.width
        for group in groups
    ]
    of_convs = sum(parameter.numel() for conv in convs.values() for parameter in conv.parameters(recurse=False))
    whole = sum(parameter.numel() for parameter in model.parameters())
    rest = whole - of_convs - sum(each * group.width for each, group in zip(per_channel, groups, strict=True))
    return Cost(model, groups, convs, price, fixed=rest, per_channel=per_channel, what=NOUNS[PARAMETERS])


def _pairs(conv: nn.Conv2d) -> int:
    return conv.out_channels if conv.groups > 1 else conv.in_channels * conv.out_channels


def _layer(name: str, model: BlendMask, groups: Sequence[ChannelGroup]) -> _Layer:
    conv: nn.Conv2d = model.get_submodule(name)  # type: ignore[assignment]
    writer = next((index for index, group in enumerate(groups) if name in group.writers), None)
    read: list[int] = []
    for index, group in enumerate(groups):
        for reader in group.readers:
            if reader.layer == name:
                read += [index] * (len(reader.inputs) // group.width)
    others = conv.in_channels - sum(groups[index].width for index in read)
    return _Layer(name, writer, tuple(read), others, conv.out_channels, conv.groups > 1)


def smallest_ratio(groups: Sequence[ChannelGroup], cost: Cost, multiple: int = MULTIPLE) -> float:
    """Share of the cost that is left when every group has given up all it may."""
    none = [_blocks(group, torch.zeros(group.width), multiple) for group in groups]
    widths = [group.width - sum(map(len, blocks)) for group, blocks in zip(groups, none, strict=True)]
    return cost.total(widths) / cost.total([group.width for group in groups])


def choose_channels(
    groups: Sequence[ChannelGroup], scores: Sequence[Tensor], cost: Cost, ratio: float, multiple: int = MULTIPLE
) -> list[list[int]]:
    """Channels to remove, one list a group.

    Blocks of `multiple` channels go one after the other, the one first that loses the least importance for what it
    saves.

    Args:
        groups: the groups of channels.
        scores: importance (width,) of the channels of each group, comparable between groups.
        cost: of the same groups.
        ratio: share of the cost to keep.
        multiple: channels in a block; what is left of a group is a multiple of it. In groups of fewer than three such
            blocks it is `MULTIPLE` at most.

    Raises:
        ConfigError: no choice of whole blocks comes near enough to the ratio.
    """
    blocks = [_blocks(group, score, multiple) for group, score in zip(groups, scores, strict=True)]
    widths = [group.width for group in groups]
    removed: list[list[int]] = [[] for _ in groups]
    before = left = cost.total(widths)
    while left > ratio * before:
        index = _cheapest(blocks, scores, cost, widths, left - (1 - TOLERANCE) * ratio * before)
        if index is None:
            break
        block = blocks[index].pop(0)
        removed[index] += block
        widths[index] -= len(block)
        left = cost.total(widths)
    if left > (1 + TOLERANCE) * ratio * before:
        raise ConfigError(
            f"{ratio:.3f} of the {cost.what} cannot be met in blocks of {multiple} channels: the nearest "
            f"above is {left / before:.3f}, ask for that"
        )
    return removed


def _cheapest(
    blocks: Sequence[list[list[int]]], scores: Sequence[Tensor], cost: Cost, widths: Sequence[int], most: float
) -> int | None:
    """The group whose next block costs least importance for what it saves, of those that save at most `most`."""
    prices = {}
    for index, (waiting, score) in enumerate(zip(blocks, scores, strict=True)):
        saved = cost.saving(widths, index, len(waiting[0])) if waiting else 0
        if 0 < saved <= most:
            prices[index] = float(score[waiting[0]].sum()) / saved
    return min(prices, key=lambda index: prices[index]) if prices else None


def _blocks(group: ChannelGroup, score: Tensor, multiple: int) -> list[list[int]]:
    """Channels that a group can give up, least important first: blocks that leave a multiple of `multiple` channels.

    Where the channels have a group normalization, each of its groups gives up as many.
    """
    if group.width < _WIDE * multiple:
        multiple = min(multiple, MULTIPLE)
    order = score.unflatten(0, (group.norm_groups, -1)).argsort(dim=1, stable=True)
    order = order + torch.arange(group.norm_groups)[:, None] * order.shape[1]
    step = math.lcm(multiple, group.norm_groups) // group.norm_groups
    least = math.ceil(group.width * LEAST_SHARE / (step * group.norm_groups)) * step
    ends = range(order.shape[1] % step or step, order.shape[1] - least + 1, step)
    starts = [0, *ends]
    return [order[:, start:end].flatten().tolist() for start, end in zip(starts, ends, strict=False)]
