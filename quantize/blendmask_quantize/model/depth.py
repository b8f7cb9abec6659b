"""Residual blocks that a network can do without: each adds to what it reads, and leaves it as it is when dropped."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.backbones.lite0 import InvertedResidual
from blendmask_quantize.model.backbones.resnet import Bottleneck


def residual_blocks(model: nn.Module) -> list[str]:
    """Name the blocks whose input has the shape of their output, in the order of the network."""
    return [name for name, module in model.named_modules() if _adds(module)]


def drop_blocks(model: nn.Module, names: Iterable[str]) -> None:
    """Replace residual blocks by the identity, in place.

    Raises:
        ConfigError: there is no residual block of that name.
    """
    for name in names:
        known = residual_blocks(model)
        if name not in known:
            raise ConfigError(f"{name} is not a residual block that can be dropped: those are {', '.join(known)}")
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, nn.Identity())


def _adds(module: nn.Module) -> bool:
    if isinstance(module, InvertedResidual):
        return module.skips
    # What a bottleneck reads has passed a ReLU, as its result has.
    return isinstance(module, Bottleneck) and isinstance(module.shortcut, nn.Identity)
