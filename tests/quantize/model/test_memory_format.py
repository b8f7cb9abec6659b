"""The layout in which networks train."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from blendmask_quantize.model.memory_format import set_training_layout


@pytest.mark.parametrize("channels", [4, 8, 12, 16, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_strided_convolution_of_any_width_trains(channels: int, dtype: torch.dtype) -> None:
    """PyTorch's channels-last kernel ends the process for fewer than 16 channels."""
    network = set_training_layout(nn.Sequential(nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 16, 1, stride=2)))
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            result = network(torch.ones(2, 3, 82, 106))
        result.float().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)


def test_other_networks_are_stored_channels_last() -> None:
    network = set_training_layout(
        nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 8, 1), nn.Conv2d(32, 8, 1, 2))
    )
    assert all(conv.weight.is_contiguous(memory_format=torch.channels_last) for conv in network.children())
