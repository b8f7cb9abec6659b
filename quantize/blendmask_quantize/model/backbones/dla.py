"""DLA-34 (Yu et al., Deep Layer Aggregation, CVPR 2018) under the reference's keys (`modeling/backbone/dla.py`)."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import BackboneConfig
from blendmask_quantize.model.layers import conv_norm, make_norm

_OWN_NORM = re.compile(r"\bconv(\d?)\.norm\.")
_STORED_NORM = re.compile(r"\bbn(\d?)\.")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut it is handed, ReLU after the sum."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = conv_norm(in_channels, out_channels, 3, stride=stride, norm=norm)
        self.conv2 = conv_norm(out_channels, out_channels, 3, norm=norm)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Map `x` (N, C, H, W) to (N, C', H / stride, W / stride), the shape of `shortcut`."""
        return F.relu(self.conv2(F.relu(self.conv1(x))) + shortcut)


class Root(nn.Module):
    """A 1x1 convolution over everything that meets at a node."""

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.conv = conv_norm(in_channels, out_channels, 1, norm=norm)

    def forward(self, children: tuple[Tensor, ...]) -> Tensor:
        """Join `children`, each (N, C_i, H, W), in their order."""
        return F.relu(self.conv(torch.cat(children, dim=1)))


class Tree(nn.Module):
    """Two blocks and the root that joins them with what came before.

    Args:
        in_channels, out_channels: of the features.
        stride: 1 or 2.
        norm: normalization of every convolution.
        earlier: channels of the children that `forward` is handed, together.
        joins_input: whether the root takes the tree's own input too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        norm: str,
        *,
        earlier: int = 0,
        joins_input: bool = False,
    ) -> None:
        super().__init__()
        self.joins_input = joins_input
        self.tree1 = BasicBlock(in_channels, out_channels, stride, norm)
        self.tree2 = BasicBlock(out_channels, out_channels, 1, norm)
        joined = 2 * out_channels + earlier + (in_channels if joins_input else 0)
        self.root = Root(joined, out_channels, norm)
        self.project = _projection(in_channels, out_channels, norm)

    def forward(self, x: Tensor, reduced: Tensor, children: tuple[Tensor, ...] = ()) -> Tensor:
        """Map `x` (N, C, H, W), itself `reduced` to the size of the result, and the earlier `children` of that size.

        Returns:
            (N, C', H / stride, W / stride).
        """
        first = self.tree1(x, self.project(reduced))
        joined = (*children, reduced) if self.joins_input else children
        return self.root((self.tree2(first, first), first, *joined))


class DoubleTree(nn.Module):
    """Two trees, of which the second one's root joins the input and the first one's result.

    `project` is stored because the reference stores it; there as here nothing reads it, since the first tree projects
    its input itself.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        self.tree1 = Tree(in_channels, out_channels, 2, norm)
        self.tree2 = Tree(out_channels, out_channels, 1, norm, earlier=in_channels + out_channels)
        self.project = _projection(in_channels, out_channels, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (N, C, H, W) to (N, C', H / 2, W / 2)."""
        reduced = _halve(x)
        first = self.tree1(x, reduced)
        return self.tree2(first, first, (reduced, first))


class DLA34(nn.Module):
    """Base layer and levels 0 to 5; `widths` are the channels of levels 2 to 5."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        widths, norm = config.level_widths, config.norm
        if len(widths) != 6:
            raise ConfigError(f"DLA-34 has six levels, found {len(widths)} level widths: give six")
        self.base_layer = _conv_level(3, widths[0], 7, 1, norm)
        self.level0 = _conv_level(widths[0], widths[0], 3, 1, norm)
        self.level1 = _conv_level(widths[0], widths[1], 3, 2, norm)
        self.level2 = Tree(widths[1], widths[2], 2, norm)
        self.level3 = DoubleTree(widths[2], widths[3], norm)
        self.level4 = DoubleTree(widths[3], widths[4], norm)
        self.level5 = Tree(widths[4], widths[5], 2, norm, joins_input=True)
        self.widths = widths[2:]
        self._register_state_dict_hook(_store_norms_beside)
        self.register_load_state_dict_pre_hook(_find_norms_beside)

    def stages(self) -> list[nn.Module]:
        """The parts in order, the base layer first, for freezing."""
        levels = [self.level0, self.level1, self.level2, self.level3, self.level4, self.level5]
        return [self.base_layer, *levels]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features of strides 4, 8, 16 and 32 for a normalized image (N, 3, H, W)."""
        level1 = self.level1(self.level0(self.base_layer(x)))
        level2 = self.level2(level1, _halve(level1))
        level3 = self.level3(level2)
        level4 = self.level4(level3)
        return level2, level3, level4, self.level5(level4, _halve(level4))


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, kernel_size=2, stride=2)


def _conv_level(in_channels: int, out_channels: int, kernel: int, stride: int, norm: str) -> nn.Sequential:
    return nn.Sequential(*_conv_and_norm(in_channels, out_channels, kernel, stride, norm), nn.ReLU())


def _projection(in_channels: int, out_channels: int, norm: str) -> nn.Module:
    if in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(*_conv_and_norm(in_channels, out_channels, 1, 1, norm))


def _conv_and_norm(in_channels: int, out_channels: int, kernel: int, stride: int, norm: str) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=norm == "")
    return [conv, make_norm(norm, out_channels) or nn.Identity()]


def _store_norms_beside(_module: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    """The reference keeps `bn1` beside `conv1`, not in it."""
    _rename(state, prefix, _OWN_NORM, r"bn\1.")


def _find_norms_beside(_module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    _rename(state, prefix, _STORED_NORM, r"conv\1.norm.")


def _rename(state: dict[str, Tensor], prefix: str, pattern: re.Pattern[str], replacement: str) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        inner = key[len(prefix) :]
        state[prefix + pattern.sub(replacement, inner)] = state.pop(key)
