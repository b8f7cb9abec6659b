"""How much channels matter: three estimates, each comparable between groups of channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.memory_format import set_training_layout
from blendmask_quantize.pruning.budget import Cost
from blendmask_quantize.pruning.groups import ChannelGroup
from blendmask_quantize.pruning.options import BN_SCALE, MAGNITUDE

Loss = Callable[[BlendMask], Tensor]
"""The training loss of a network on some labeled images."""


def channel_importance(
    kind: str, plain: BlendMask, groups: Sequence[ChannelGroup], losses: Iterable[Loss], cost: Cost
) -> list[Tensor]:
    """Importance (width,) of the channels of each group.

    Args:
        kind: "taylor", "magnitude" or "bn_scale".
        plain: from `plain_form`; its gradients are gone afterwards.
        groups: from `find_groups`.
        losses: for "taylor", at least one.
        cost: of the same groups. Magnitudes are shares of the mean of their group, and weigh as much as the group
            costs, so that all groups become thinner alike where their channels are alike.

    Raises:
        ConfigError: there is no loss for "taylor".
    """
    if kind not in (MAGNITUDE, BN_SCALE):
        return taylor_importance(plain, groups, losses)
    layers = dict(plain.named_modules())
    widths = [group.width for group in groups]
    scores = []
    for index, group in enumerate(groups):
        score = _norm_scales(group, layers) if kind == BN_SCALE and group.norms else _magnitudes(group, layers)
        weight = cost.of_group(widths, index) / group.width
        scores.append(score / score.mean().clamp(min=1e-12) * weight)
    return scores


def taylor_importance(plain: BlendMask, groups: Sequence[ChannelGroup], losses: Iterable[Loss]) -> list[Tensor]:
    """How much the loss would change without a channel, squared: (width,) for each group.

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


def _magnitudes(group: ChannelGroup, layers: Mapping[str, Any]) -> Tensor:
    """Mean length (width,) of the weights that make each channel, over its writers (Li et al., ICLR 2017)."""
    norms = [layers[name].weight.detach().flatten(1).norm(dim=1) for name in group.writers]
    norms = [norm for norm in norms if len(norm) == group.width]
    return torch.stack([norm / norm.mean().clamp(min=1e-12) for norm in norms]).mean(dim=0)


def _norm_scales(group: ChannelGroup, layers: Mapping[str, Any]) -> Tensor:
    """Mean absolute factor (width,) of the normalizations on each channel (Liu et al., ICCV 2017)."""
    scales = [layers[name].weight.detach().abs() for name in group.norms]
    return torch.stack([scale for scale in scales if len(scale) == group.width]).mean(dim=0)


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
