"""Which channels to give up for a number of multiply-accumulates: the least important for what they cost first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.macs import macs_by_layer
from blendmask_quantize.pruning.groups import ChannelGroup

MULTIPLE = 8
"""Channels come in multiples of this, which the integer kernels of CPUs and GPUs fill."""
LEAST_SHARE = 0.25
"""Share of its channels that every group keeps."""
TOLERANCE = 0.02
"""How far the reached number may lie from the one asked for, relative."""


@dataclass(frozen=True)
class _Layer:
    """A convolution and the groups of its channels.

    Attributes:
        cost: multiply-accumulates a pair of its channels that may go.
        writer: group of its output channels, if these may go.
        read: groups of its input channels that may go, each as often as it is read.
        others: its further input channels, where some may go.
    """

    cost: int
    writer: int | None
    read: tuple[int, ...]
    others: int

    def pairs(self, widths: Sequence[int]) -> int:
        """Pairs of its channels that may go, with `widths`, one a group."""
        outputs = 1 if self.writer is None else widths[self.writer]
        inputs = self.others + sum(widths[index] for index in self.read) if self.read else 1
        return outputs * inputs

    def macs(self, widths: Sequence[int]) -> int:
        """Multiply-accumulates with `widths`, one a group."""
        return self.cost * self.pairs(widths)


class Work:
    """Multiply-accumulates of a network as a function of the widths of its channel groups.

    Args:
        model: the network before pruning.
        groups: its groups of channels.
        size: height and width of the input; the test size if left out.
    """

    def __init__(self, model: BlendMask, groups: Sequence[ChannelGroup], size: tuple[int, int] | None = None) -> None:
        made = {layer: index for index, group in enumerate(groups) for layer in group.writers}
        taken = _groups_read(groups)
        widths = [group.width for group in groups]
        self.fixed = 0
        self.layers: list[_Layer] = []
        for name, macs in macs_by_layer(model, size).items():
            writer, read = made.get(name), taken.get(name, ())
            if writer is None and not read:
                self.fixed += macs
                continue
            inputs: int = model.get_submodule(name).in_channels  # type: ignore[assignment]
            layer = _Layer(1, writer, read, inputs - sum(widths[index] for index in read))
            self.layers.append(replace(layer, cost=macs // layer.pairs(widths)))
        self.touched = [
            [layer for layer in self.layers if index in (layer.writer, *layer.read)] for index in range(len(groups))
        ]

    def total(self, widths: Sequence[int]) -> int:
        """Multiply-accumulates with `widths`, one a group."""
        return self.fixed + sum(layer.macs(widths) for layer in self.layers)

    def saving(self, widths: Sequence[int], group: int, channels: int) -> int:
        """What taking `channels` out of one group saves."""
        thinner = list(widths)
        thinner[group] -= channels
        return sum(layer.macs(widths) - layer.macs(thinner) for layer in self.touched[group])


def smallest_ratio(groups: Sequence[ChannelGroup], work: Work) -> float:
    """Share of the multiply-accumulates that is left when every group has given up all it may."""
    widths = [group.width - sum(len(block) for block in _blocks(group, torch.zeros(group.width))) for group in groups]
    return work.total(widths) / work.total([group.width for group in groups])


def choose_channels(
    groups: Sequence[ChannelGroup], scores: Sequence[Tensor], work: Work, ratio: float
) -> list[list[int]]:
    """Channels to remove, one list a group.

    Blocks of `MULTIPLE` channels go one after the other, the one first that loses the least importance for each
    multiply-accumulate it saves.

    Args:
        groups: the groups of channels.
        scores: importance (width,) of the channels of each group, comparable between groups.
        work: of the same groups.
        ratio: share of the multiply-accumulates to keep.

    Raises:
        ConfigError: no choice of whole blocks comes near enough to the ratio.
    """
    blocks = [_blocks(group, score) for group, score in zip(groups, scores, strict=True)]
    widths = [group.width for group in groups]
    removed: list[list[int]] = [[] for _ in groups]
    before = left = work.total(widths)
    while left > ratio * before:
        index = _cheapest(blocks, scores, work, widths, left - (1 - TOLERANCE) * ratio * before)
        if index is None:
            break
        block = blocks[index].pop(0)
        removed[index] += block
        widths[index] -= len(block)
        left = work.total(widths)
    if left > (1 + TOLERANCE) * ratio * before:
        raise ConfigError(
            f"{ratio:.3f} of the multiply-accumulates cannot be met in blocks of {MULTIPLE} channels: the nearest "
            f"above is {left / before:.3f}, ask for that"
        )
    return removed


def _cheapest(
    blocks: Sequence[list[list[int]]], scores: Sequence[Tensor], work: Work, widths: Sequence[int], most: float
) -> int | None:
    """The group whose next block costs least importance a multiply-accumulate, of those that save at most `most`."""
    prices = {}
    for index, (waiting, score) in enumerate(zip(blocks, scores, strict=True)):
        saved = work.saving(widths, index, len(waiting[0])) if waiting else 0
        if 0 < saved <= most:
            prices[index] = float(score[waiting[0]].sum()) / saved
    return min(prices, key=lambda index: prices[index]) if prices else None


def _blocks(group: ChannelGroup, score: Tensor) -> list[list[int]]:
    """What a group can give up, least important first: blocks that leave a multiple of `MULTIPLE` channels.

    Where the channels have a group normalization, each of its groups gives up as many.
    """
    order = score.unflatten(0, (group.norm_groups, -1)).argsort(dim=1, stable=True)
    order = order + torch.arange(group.norm_groups)[:, None] * order.shape[1]
    step = math.lcm(MULTIPLE, group.norm_groups) // group.norm_groups
    least = math.ceil(group.width * LEAST_SHARE / (step * group.norm_groups)) * step
    ends = range(order.shape[1] % step or step, order.shape[1] - least + 1, step)
    starts = [0, *ends]
    return [order[:, start:end].flatten().tolist() for start, end in zip(starts, ends, strict=False)]


def _groups_read(groups: Sequence[ChannelGroup]) -> dict[str, tuple[int, ...]]:
    """The groups that each convolution reads, by its name, each as often as it is read."""
    read: dict[str, tuple[int, ...]] = {}
    for index, group in enumerate(groups):
        for reader in group.readers:
            times = len(reader.inputs) // group.width
            read[reader.layer] = read.get(reader.layer, ()) + (index,) * times
    return read
