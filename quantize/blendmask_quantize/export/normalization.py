"""Normalization of the image as the first step of the deployable graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_quantize.model.config import InputConfig
from blendmask_quantize.model.predictor import pad_value


class Normalization(nn.Module):
    """Order the channels of an image, subtract the mean and divide by the deviation; keep the padding at 0.

    Args:
        config: mean, deviation and channel order of the network.
    """

    mean: Tensor
    inverse_std: Tensor
    pad_value: Tensor

    def __init__(self, config: InputConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", _per_channel(config.mean))
        self.register_buffer("inverse_std", 1 / _per_channel(config.std))
        self.register_buffer("pad_value", torch.tensor(pad_value(config)).float()[:, None, None])

    def forward(self, image: Tensor) -> Tensor:
        """Network input (1, 3, H, W) from uint8 (1, H, W, 3) RGB, exactly 0 where the image is padded."""
        planes = image.float().permute(0, 3, 1, 2)  # TensorRT casts uint8 images, but does not transpose them
        ordered = planes[:, [2, 1, 0]] if self.config.channels == "bgr" else planes
        normalized = (ordered - self.mean) * self.inverse_std
        return normalized if _pads_exactly(self.config) else normalized * self._inside(planes)

    def _inside(self, planes: Tensor) -> Tensor:
        """Mask (1, 1, H, W) of RGB planes (1, 3, H, W): 0 in the padding, 1 before it.

        Pixels are whole gray levels and a pixel mean need not be, so padding with the rounded mean is not 0 after
        normalization. Padding is recognized by its color: the rows at the bottom and the columns at the right that
        show nothing else. An image that ends in rows of exactly that color loses less than half a gray level there.
        """
        differs = (planes - self.pad_value).abs().amax(dim=1)
        rows, columns = _up_to_last(differs.amax(dim=2)), _up_to_last(differs.amax(dim=1))
        return rows[:, None, :, None] * columns[:, None, None, :]


def _per_channel(values: Sequence[float]) -> Tensor:
    """One value where all channels agree, which runtimes broadcast much faster, else (3, 1, 1)."""
    return torch.tensor(values[0]) if len(set(values)) == 1 else torch.tensor(values)[:, None, None]


def _pads_exactly(config: InputConfig) -> bool:
    """Whether the pad value is 0 after normalization."""
    return all(float(value).is_integer() for value in config.mean)


def _up_to_last(values: Tensor) -> Tensor:
    """1 up to the last place of (1, N) whole numbers that is not 0, 0 behind it."""
    places = torch.arange(1, values.shape[1] + 1).float()
    last = (_at_most_one(values) * places).amax(dim=1, keepdim=True)
    return _at_most_one(F.relu(last + 1 - places))


def _at_most_one(values: Tensor) -> Tensor:
    """0 where a whole number is 0, else 1; arithmetic, since runtimes differ in how they compare and cast."""
    return 1 - F.relu(1 - values)
