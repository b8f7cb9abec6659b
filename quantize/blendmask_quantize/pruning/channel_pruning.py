"""Structural pruning: a network thinned to a share of its work, its parameters or its time."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.backbones.deformable import refuse_deformable
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.patterns import parse_pattern
from blendmask_quantize.pruning.budget import (
    LEAST_SHARE,
    Cost,
    choose_channels,
    macs_cost,
    parameters_cost,
    smallest_ratio,
)
from blendmask_quantize.pruning.groups import ChannelGroup, find_groups, plain_form, unplain, unpruned_layers
from blendmask_quantize.pruning.importance import Loss, channel_importance
from blendmask_quantize.pruning.options import PARAMETERS, PruneOptions

CostOf = Callable[[BlendMask, Sequence[ChannelGroup]], Cost]
"""Gives the cost of a network as a function of its widths, in place of the one that the options name."""
_DEFAULT = PruneOptions()


def prune_network(
    model: BlendMask, ratio: float, losses: Iterable[Loss], size: tuple[int, int] | None = None, *,
    options: PruneOptions = _DEFAULT, cost_of: CostOf | None = None,
) -> BlendMask:  # fmt: skip
    """A thinner network, in evaluation mode and not yet fine-tuned; its configuration holds the widths.

    Args:
        model: the network, unchanged by this.
        ratio: share of the target to keep, 0 to 1; reached within `budget.TOLERANCE`.
        losses: each gives the loss of the network it is handed on other images; a few suffice.
        size: height and width that the multiply-accumulates are counted at; the test size if left out.
        options: target, importance, multiple and protected layers.
        cost_of: for the target "latency".

    Raises:
        ConfigError: the ratio cannot be reached; says which can, before a loss is computed. Or a protected layer does
            not exist, or the network has deformable convolutions.
        DependencyError: torch-pruning is not installed.
    """
    _check_share(ratio, options.what)
    refuse_deformable(model.config, "prune")
    if ratio == 1:
        unpruned_layers(model, map(parse_pattern, options.protect))  # refuses a pattern that matches nothing
        return copy.deepcopy(model).eval()
    plain = plain_form(model)
    groups = _groups(plain, options)
    cost = _cost(model, groups, size, options, cost_of)
    multiple = options.multiple or cost.multiple
    _check_reachable(ratio, smallest_ratio(groups, cost, multiple), cost.what)
    scores = channel_importance(options.importance, plain, groups, losses, cost)
    for group, channels in zip(groups, choose_channels(groups, scores, cost, ratio, multiple), strict=True):
        if channels:
            group.remove(channels)
    return unplain(plain)


def check_ratio(
    model: BlendMask, options: PruneOptions, size: tuple[int, int] | None = None, cost_of: CostOf | None = None
) -> None:
    """See that `prune_network` can reach a ratio, as far as that can be told without images.

    Raises:
        ConfigError: it cannot; says what can be reached.
        DependencyError: torch-pruning is not installed.
    """
    _check_share(options.ratio, options.what)
    refuse_deformable(model.config, "prune")
    groups = _groups(plain_form(model), options)
    cost = _cost(model, groups, size, options, cost_of)
    _check_reachable(options.ratio, smallest_ratio(groups, cost, options.multiple or cost.multiple), cost.what)


def total_cost(
    model: BlendMask, options: PruneOptions, cost_of: CostOf | None, size: tuple[int, int] | None = None
) -> float:
    """Return what a network costs, pruned or not.

    Args:
        model: the network.
        options: of pruning; these name the target.
        cost_of: for the target "latency".
        size: height and width that the multiply-accumulates are counted at; the test size if left out.
    """
    groups = _groups(plain_form(model), options)
    return _cost(model, groups, size, options, cost_of).total([group.width for group in groups])


def _groups(plain: BlendMask, options: PruneOptions) -> list[ChannelGroup]:
    return find_groups(plain, map(parse_pattern, options.protect))


def _cost(
    model: BlendMask, groups: Sequence[ChannelGroup], size: tuple[int, int] | None, options: PruneOptions,
    cost_of: CostOf | None,
) -> Cost:  # fmt: skip
    if cost_of is not None:
        return cost_of(model, groups)
    return parameters_cost(model, groups) if options.target == PARAMETERS else macs_cost(model, groups, size)


def _check_share(ratio: float, what: str) -> None:
    if not 0 < ratio <= 1:
        raise ConfigError(f"{ratio} is not a share of the {what}: give a number above 0 and up to 1, e.g. 0.7")


def _check_reachable(ratio: float, smallest: float, what: str) -> None:
    if ratio < smallest:
        raise ConfigError(
            f"{ratio} of the {what} cannot be reached: {smallest:.3f} is left with {LEAST_SHARE} of the "
            "channels everywhere but in outputs, frozen stages and protected layers. Ask for "
            f"{math.ceil(smallest * 1000) / 1000} or more"
        )
