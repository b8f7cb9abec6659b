"""Convolution and normalization blocks shared by backbones, pyramid, heads and bases."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_edge.errors import ConfigError

GROUPS = 32


class FrozenBatchNorm2d(nn.Module):
    """Batch normalization whose statistics and affine terms are constants.

    Four buffers and no counter, as in detectron2 `layers/batch_norm.py`.

    Args:
        channels: number of channels.
        eps: added to the variance.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x` (N, C, H, W)."""
        scale, shift = norm_affine(self)
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]


def norm_affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) that a normalization with fixed statistics applies to each channel.

    Args:
        norm: a `FrozenBatchNorm2d` or an `nn.BatchNorm2d`.
    """
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # type: ignore[operator]
    return scale, norm.bias - norm.running_mean * scale  # type: ignore[operator]


def make_norm(kind: str, channels: int, eps: float = 1e-5) -> nn.Module | None:
    """The normalization layer that a config names; None for "".

    Args:
        kind: "", "BN", "SyncBN" (the same in one process), "FrozenBN" or "GN" (32 groups).
        channels: number of channels.
        eps: added to the variance.

    Raises:
        ConfigError: an unknown kind, or a width that the groups do not divide.
    """
    if kind == "":
        return None
    if kind == "GN":
        if channels % GROUPS:
            raise ConfigError(f"GN has {GROUPS} groups, found {channels} channels: use a multiple of it, or BN")
        return nn.GroupNorm(GROUPS, channels)
    if kind == "FrozenBN":
        return FrozenBatchNorm2d(channels, eps)
    if kind in ("BN", "SyncBN"):
        return nn.BatchNorm2d(channels, eps=eps)
    raise ConfigError(f"unknown normalization {kind!r}: use '', BN, SyncBN, FrozenBN or GN")


class SameConv2d(nn.Conv2d):
    """Strided convolution with TensorFlow's SAME padding: the odd pixel goes right and bottom.

    Input sides must be multiples of the stride, which holds for an image padded to the coarsest stride.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, **options: Any) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=0, **options)
        total = kernel_size - stride
        self.pads = (total // 2, total - total // 2) * 2

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(F.pad(input, self.pads), weight, bias)


class ConvNorm(nn.Module):
    """A convolution and its normalization, stored under the reference's keys.

    The state dict holds `weight` (and `bias`) of the convolution itself and `norm.*`, as detectron2's `Conv2d` wrapper
    does, while `conv` and `norm` stay siblings that tracing and pruning can follow.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.Module | None) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm if norm is not None else nn.Identity()
        self._register_state_dict_hook(_strip_conv)
        self.register_load_state_dict_pre_hook(_restore_conv)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalize `x` (N, C, H, W); no activation. Frozen statistics act on the weights, for speed."""
        if isinstance(self.norm, FrozenBatchNorm2d):
            scale, shift = norm_affine(self.norm)
            return self.conv._conv_forward(x, self.conv.weight * scale[:, None, None, None], shift)
        return self.norm(self.conv(x))


def _strip_conv(_module: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name in ("weight", "bias"):
        if f"{prefix}conv.{name}" in state:
            state[prefix + name] = state.pop(f"{prefix}conv.{name}")


def _restore_conv(_module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name in ("weight", "bias"):
        if prefix + name in state:
            state[f"{prefix}conv.{name}"] = state.pop(prefix + name)


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, norm: str = "", groups: int = 1,
    same: bool = False, eps: float = 1e-5,
) -> ConvNorm:  # fmt: skip
    """A `ConvNorm` with half padding, or with SAME padding where `same` is set and the stride exceeds 1."""
    options: dict[str, Any] = {"groups": groups, "bias": norm == ""}
    if same and stride > 1:
        conv: nn.Conv2d = SameConv2d(in_channels, out_channels, kernel_size, stride, **options)
    else:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, **options)
    return ConvNorm(conv, make_norm(norm, out_channels, eps))


def conv_block(
    in_channels: int, out_channels: int, norm: str, kernel_size: int = 3, dilation: int = 1
) -> nn.Sequential:
    """Convolution, normalization, ReLU as indices 0, 1, 2 (AdelaiDet `layers/conv_with_kaiming_uniform.py`)."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, 1, padding, dilation, bias=norm == "")
    caffe2_xavier_(conv)
    layers = [conv, make_norm(norm, out_channels), nn.ReLU()]
    return nn.Sequential(*(layer for layer in layers if layer is not None))


def xavier(layer: ConvNorm) -> ConvNorm:
    """The layer, its convolution initialized by `caffe2_xavier_`."""
    caffe2_xavier_(layer.conv)
    return layer


def caffe2_xavier_(conv: nn.Conv2d) -> None:
    """Initialize in place: uniform Kaiming with a = 1, zero bias (Caffe2's XavierFill)."""
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def normal_(conv: nn.Conv2d, std: float = 0.01) -> None:
    """Initialize in place: normal weights, zero bias."""
    nn.init.normal_(conv.weight, std=std)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def prior_bias(probability: float) -> float:
    """Logit of a prior probability, the starting bias of the class scores."""
    return -math.log((1 - probability) / probability)
