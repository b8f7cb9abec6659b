"""Structural pruning: a network thinned to a share of its multiply-accumulates."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.backbones.deformable import refuse_deformable
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.memory_format import set_training_layout
from blendmask_quantize.pruning.budget import LEAST_SHARE, Work, choose_channels, smallest_ratio
from blendmask_quantize.pruning.groups import ChannelGroup, find_groups, plain_form, unplain

Loss = Callable[[BlendMask], Tensor]
"""The training loss of a network on some labeled images."""


def prune_network(
    model: BlendMask, ratio: float, losses: Iterable[Loss], size: tuple[int, int] | None = None
) -> BlendMask:
    """A thinner network, in evaluation mode and not yet fine-tuned; its configuration holds the widths.

    Args:
        model: the network, unchanged by this.
        ratio: share of the multiply-accumulates to keep, 0 to 1; reached within `budget.TOLERANCE`.
        losses: each gives the loss of the network it is handed on other images; a few suffice.
        size: height and width that the multiply-accumulates are counted at; the test size if left out.

    Raises:
        ConfigError: the ratio cannot be reached; says which can, before a loss is computed. Or the network has
            deformable convolutions.
        DependencyError: torch-pruning is not installed.
    """
    _check_share(ratio)
    refuse_deformable(model.config, "prune")
    if ratio == 1:
        return copy.deepcopy(model).eval()
    plain = plain_form(model)
    groups = find_groups(plain)
    work = Work(model, groups, size)
    _check_reachable(ratio, smallest_ratio(groups, work))
    scores = channel_importance(plain, groups, losses)
    for group, channels in zip(groups, choose_channels(groups, scores, work, ratio), strict=True):
        if channels:
            group.remove(channels)
    return unplain(plain)


def check_ratio(model: BlendMask, ratio: float, size: tuple[int, int] | None = None) -> None:
    """See that `prune_network` can reach a ratio, as far as that can be told without images.

    Raises:
        ConfigError: it cannot; says what can be reached.
        DependencyError: torch-pruning is not installed.
    """
    _check_share(ratio)
    groups = find_groups(plain_form(model))
    _check_reachable(ratio, smallest_ratio(groups, Work(model, groups, size)))


def channel_importance(plain: BlendMask, groups: Sequence[ChannelGroup], losses: Iterable[Loss]) -> list[Tensor]:
    """How much the loss would change without a channel, squared: (width,) for each group, comparable between groups.

    First-order Taylor estimate (Molchanov et al., CVPR 2019, equation 8) at a gate on what reads the channel: the sum
    over its readers of weight times gradient, squared, averaged over the batches.

    Args:
        plain: from `plain_form`; its gradients are gone afterwards.
        groups: from `find_groups`.
        losses: at least one.

    Raises:
        ConfigError: there is no loss.
    """
    set_training_layout(plain)
    layers = dict(plain.named_modules())
    scores = [torch.zeros(group.width) for group in groups]
    count = 0
    for loss in losses:
        count += 1
        plain.zero_grad()
        loss(plain).backward()
        for score, group in zip(scores, groups, strict=True):
            score += _sensitivity(group, layers) ** 2
    plain.zero_grad()
    if count == 0:
        raise ConfigError("the importance of channels is measured on labeled images: give some")
    return [score / count for score in scores]


def _sensitivity(group: ChannelGroup, layers: Mapping[str, nn.Module]) -> Tensor:
    """Gradient (width,) of the loss to a factor on each channel of a group, wherever it is read."""
    gradient = torch.zeros(group.width)
    for reader in group.readers:
        gate = _gate(layers[reader.layer])[list(reader.inputs)]
        gradient.index_add_(0, torch.tensor(reader.channels), gate)
    return gradient


def _gate(conv: nn.Module) -> Tensor:
    """Gradient (C,) of the loss to a factor on each input channel of a convolution."""
    weight: nn.Parameter = conv.weight  # type: ignore[assignment]
    if weight.grad is None:
        return torch.zeros(weight.shape[1])
    return (weight.detach() * weight.grad).sum(dim=(0, 2, 3))


def _check_share(ratio: float) -> None:
    if not 0 < ratio <= 1:
        raise ConfigError(
            f"{ratio} is no share of the multiply-accumulates: give a number above 0 and up to 1, e.g. 0.7"
        )


def _check_reachable(ratio: float, smallest: float) -> None:
    if ratio < smallest:
        raise ConfigError(
            f"{ratio} of the multiply-accumulates cannot be reached: {smallest:.3f} are left with {LEAST_SHARE} of the "
            "channels everywhere but in outputs and frozen stages. Ask for "
            f"{math.ceil(smallest * 1000) / 1000} or more"
        )
