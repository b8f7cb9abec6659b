"""Outlier channels: a network that computes the same with ranges that a scale per tensor cannot serve."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from blendmask_quantize.model.blendmask import BlendMask


@dataclass(frozen=True)
class Outliers:
    """Channels of a tensor that are scaled where it is made, and scaled back where it is read.

    Nothing but sums, resizes and ReLU may stand in between.

    Attributes:
        makers: names of all modules that make the tensor or are added to it: convolutions, or normalizations.
        readers: names of all convolutions that read it.
    """

    makers: tuple[str, ...]
    readers: tuple[str, ...]


@torch.no_grad()
def plant_outliers(model: BlendMask, outliers: Sequence[Outliers], factor: float, channels: int = 2) -> BlendMask:
    """Return a copy of a network that computes the same, with outlier channels.

    Args:
        model: the network.
        outliers: the tensors.
        factor: by which channels are scaled.
        channels: how many of each tensor, the first ones.
    """
    planted = copy.deepcopy(model)
    for tensor in outliers:
        for name in tensor.makers:
            _scale_outputs(planted.get_submodule(name), factor, channels)
        for name in tensor.readers:
            module: Any = planted.get_submodule(name)
            conv = module if isinstance(module, nn.Conv2d) else module.conv
            conv.weight[:, :channels] /= factor
    return planted


def _scale_outputs(module: Any, factor: float, channels: int) -> None:
    """Scale the first outputs of a convolution, of a normalization, or of a module of both."""
    norm = getattr(module, "norm", None)
    last = norm if norm is not None and not isinstance(norm, nn.Identity) else getattr(module, "conv", module)
    for parameter in (last.weight, last.bias):
        if parameter is not None:
            parameter[:channels] *= factor
