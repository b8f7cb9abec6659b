"""Memory format for training."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

_LEAST_CHANNELS = 16
"""With fewer input channels, the backward pass of strided 1x1 convolutions writes out of bounds (PyTorch 2.14, CPU)."""


def set_training_layout(network: Network) -> Network:
    """Store the weights of `network` channels-last, in which CPUs train depthwise convolutions faster.

    A network keeps its layout if it contains a convolution for which PyTorch's channels-last kernel is unsafe: 1x1 with
    a stride and fewer than 16 input channels, as strong pruning of a narrow network leaves.

    Returns:
        The same network.
    """
    if not any(isinstance(module, nn.Conv2d) and _is_unsafe(module) for module in network.modules()):
        network.to(memory_format=torch.channels_last)
    return network


def _is_unsafe(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and max(conv.stride) > 1 and conv.in_channels < _LEAST_CHANNELS
