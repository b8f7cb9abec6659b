"""ResNet backbones as detectron2 builds them (`modeling/backbone/resnet.py`): stride in the first 1x1 convolution."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.backbones.deformable import DeformableConvNorm, offset_conv
from blendmask_quantize.model.config import BackboneConfig
from blendmask_quantize.model.layers import conv_norm

BLOCKS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Bottlenecks of res2 to res5 by depth. Depth 26 is for small networks of your own; no released one has it."""


class Stem(nn.Module):
    """7x7 convolution of stride 2, ReLU, 3x3 max-pool of stride 2."""

    def __init__(self, width: int, norm: str) -> None:
        super().__init__()
        self.conv1 = conv_norm(3, width, 7, stride=2, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Reduce `x` (N, 3, H, W) to (N, width, H / 4, W / 4)."""
        return F.max_pool2d(F.relu(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut, ReLU after the sum."""

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: int, norm: str) -> None:
        super().__init__()
        projects = in_channels != out_channels
        self.shortcut = conv_norm(in_channels, out_channels, 1, stride=stride, norm=norm) if projects else nn.Identity()
        self.conv1 = conv_norm(in_channels, width, 1, stride=stride, norm=norm)
        self.conv2 = conv_norm(width, width, 3, norm=norm)
        self.conv3 = conv_norm(width, out_channels, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (N, C, H, W) to (N, C', H / stride, W / stride)."""
        y = F.relu(self.conv1(x))
        y = F.relu(self.conv2(y))
        return F.relu(self.conv3(y) + self.shortcut(x))


class DeformableBottleneck(Bottleneck):
    """A bottleneck whose 3x3 convolution samples where another one, `conv2_offset`, says."""

    conv2: DeformableConvNorm

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: int, norm: str) -> None:
        super().__init__(in_channels, width, out_channels, stride, norm)
        self.conv2_offset = offset_conv(width)
        self.conv2 = DeformableConvNorm(width, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (N, C, H, W) to (N, C', H / stride, W / stride)."""
        y = F.relu(self.conv1(x))
        y = F.relu(self.conv2(y, self.conv2_offset(y)))
        return F.relu(self.conv3(y) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem and stages res2 to res5; `widths` are the channels of res2 to res5."""

    res2: nn.Sequential
    res3: nn.Sequential
    res4: nn.Sequential
    res5: nn.Sequential

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        if config.depth not in BLOCKS:
            raise ConfigError(
                f"no ResNet of depth {config.depth} is built here: use one of {', '.join(map(str, BLOCKS))}"
            )
        if config.deform_interval < 1:
            raise ConfigError(f"deform_interval is {config.deform_interval}: use 1 for every block, or more")
        self.stem = Stem(config.stem_width, config.norm)
        channels = config.stem_width
        for stage in (2, 3, 4, 5):
            setattr(self, f"res{stage}", _make_stage(config, stage, channels))
            channels = config.res2_width << (stage - 2)
        self.widths = tuple(config.res2_width << index for index in range(4))

    def stages(self) -> list[nn.Module]:
        """The parts in order, the stem first, for freezing."""
        return [self.stem, self.res2, self.res3, self.res4, self.res5]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features of strides 4, 8, 16 and 32 for a normalized image (N, 3, H, W)."""
        res2 = self.res2(self.stem(x))
        res3 = self.res3(res2)
        res4 = self.res4(res3)
        return res2, res3, res4, self.res5(res4)


def _make_stage(config: BackboneConfig, stage: int, in_channels: int) -> nn.Sequential:
    width, out = config.bottleneck_width << (stage - 2), config.res2_width << (stage - 2)
    blocks: list[Bottleneck] = []
    for index in range(BLOCKS[config.depth][stage - 2]):
        deforms = stage in config.deform_stages and index % config.deform_interval == 0
        block = DeformableBottleneck if deforms else Bottleneck
        stride = 2 if index == 0 and stage > 2 else 1
        blocks.append(block(out if index else in_channels, width, out, stride, config.norm))
    return nn.Sequential(*blocks)
