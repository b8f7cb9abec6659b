"""Bottom modules, which predict the bases from the pyramid (paper section 3.1)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.layers import ConvNorm, conv_block, conv_norm, xavier
from blendmask_quantize.model.pyramid import Features


class BottomModule(nn.Module):
    """Bases from the pyramid, and a semantic head on P3 that is an auxiliary loss of training only.

    A subclass defines `tower`, whose last layer gives the K bases, `forward`, and last the semantic head: resumed
    training goes by the order of the weights.
    """

    tower: nn.Sequential
    seg_head: nn.Sequential | None

    def forward(self, features: Features) -> Tensor:
        """Bases (N, K, H / 4, W / 4), without activation."""
        raise NotImplementedError

    def semantic(self, p3: Tensor) -> Tensor | None:
        """Semantic logits (N, classes + 1, H / 8, W / 8), background first; None without that head."""
        return self.seg_head(p3) if self.seg_head is not None else None


class ProtoNet(BottomModule):
    """P3, P4 and P5 refined and summed at stride 8, a tower, upsampling to stride 4, a block, K bases.

    AdelaiDet `modeling/blendmask/basis_module.py`, under its keys; every released configuration has it. `fine` projects
    the backbone's features of stride 4, where configured.
    """

    fine: ConvNorm | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        bases, width = config.bases, config.bases.width
        self.refine = nn.ModuleList(conv_block(config.pyramid_width, width, bases.norm) for _ in range(3))
        tower: list[nn.Module] = [conv_block(width, width, bases.norm) for _ in range(bases.convs)]
        tower += [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)]
        tower += [conv_block(width, width, bases.norm), nn.Conv2d(width, bases.count, 1)]
        self.tower = nn.Sequential(*tower)
        self.seg_head = _semantic_head(config)
        self.fine = None

    def forward(self, features: Features) -> Tensor:
        """Bases (N, K, H / 4, W / 4) from the pyramid's three finest levels, and the backbone's finer one if so set."""
        p3, *coarser = features.levels[:3]
        x = self.refine[0](p3)
        for refine, feature, factor in zip(list(self.refine)[1:], coarser, (2.0, 4.0), strict=True):
            x = x + F.interpolate(refine(feature), scale_factor=factor, mode="bilinear", align_corners=False)
        if self.fine is None:
            return self.tower(x)
        for layer in self.tower:
            x = layer(x)
            if isinstance(layer, nn.Upsample):
                x = F.relu(x + self.fine(features.fine))
        return x


class DeepLabDecoder(BottomModule):
    """The decoder of DeepLabV3+ on P3 and P5, which the paper's experiments use as bottom module.

    P5 passes atrous spatial pyramid pooling and comes up to stride 8, where a 3x3 convolution joins it with the reduced
    P3; then `convs - 1` more, upsampling to stride 4, the stride of every bottom module here, and a 1x1 convolution to
    K bases. Chen et al., ECCV 2018, figure 2, whose finest features have stride 4; the pyramid's have 8.

    Where DeepLabV3+ convolves a concatenation, this sums convolutions of its parts, each with its own normalization:
    the same function at inference, made of operators that quantize.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        bases, width = config.bases, config.bases.width
        if bases.convs < 1:
            raise ConfigError(f"the deeplab bottom module has {bases.convs} convolutions at stride 8: give 1 or more")
        self.pyramid_pooling = AtrousPyramidPooling(config)
        self.low_level = conv_block(config.pyramid_width, bases.low_level_width, bases.norm, kernel_size=1)
        self.join_low = xavier(conv_norm(bases.low_level_width, width, 3, norm=bases.norm))
        self.join_high = xavier(conv_norm(width, width, 3, norm=bases.norm))
        tower: list[nn.Module] = [conv_block(width, width, bases.norm) for _ in range(bases.convs - 1)]
        tower += [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)]
        self.tower = nn.Sequential(*tower, nn.Conv2d(width, bases.count, 1))
        self.seg_head = _semantic_head(config)

    def forward(self, features: Features) -> Tensor:
        """Bases (N, K, H / 4, W / 4) from P3 and P5."""
        high = self.pyramid_pooling(features.levels[2])
        high = F.interpolate(high, scale_factor=4.0, mode="bilinear", align_corners=False)
        return self.tower(F.relu(self.join_low(self.low_level(features.levels[0])) + self.join_high(high)))


class AtrousPyramidPooling(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1 convolution, 3x3 ones of several rates, and the mean of the image.

    DeepLabV3 (Chen et al., 2017), section 3.3. The mean has no normalization, for it is one location an image.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        bases, inputs, width = config.bases, config.pyramid_width, config.bases.width
        branches = [conv_block(inputs, width, bases.norm, kernel_size=1)]
        branches += [conv_block(inputs, width, bases.norm, dilation=rate) for rate in bases.atrous_rates]
        self.branches = nn.ModuleList(branches)
        self.projections = nn.ModuleList(xavier(conv_norm(width, width, 1, norm=bases.norm)) for _ in branches)
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_block(inputs, width, "", kernel_size=1))
        self.mean_projection = xavier(conv_norm(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (N, C, h, w) to (N, width, h, w)."""
        total = self.mean_projection(self.mean(x))
        for branch, project in zip(self.branches, self.projections, strict=True):
            total = project(branch(x)) + total
        return F.relu(total)


BOTTOM_MODULES: dict[str, type[BottomModule]] = {"protonet": ProtoNet, "deeplab": DeepLabDecoder}
"""Bottom modules by the name that `BasesConfig.kind` gives."""


def make_bottom_module(config: ModelConfig, fine_channels: int) -> BottomModule:
    """The bottom module that a configuration names.

    Args:
        config: of the network.
        fine_channels: of the backbone's features of stride 4.

    Raises:
        ConfigError: there is none of that name, or it has no use for fine features.
    """
    kind = config.bases.kind
    if kind not in BOTTOM_MODULES:
        raise ConfigError(f"unknown bottom module {kind!r}: use {' or '.join(BOTTOM_MODULES)}")
    module = BOTTOM_MODULES[kind](config)
    if config.bases.fine:
        if not isinstance(module, ProtoNet):
            raise ConfigError(f"the {kind} bottom module takes no fine features: leave `fine` out, or use protonet")
        module.fine = _fine_layer(fine_channels, config)
    return module


def _semantic_head(config: ModelConfig) -> nn.Sequential | None:
    if not config.bases.semantic:
        return None
    layers: list[nn.Module] = []
    width = config.bases.width
    for channels in (config.pyramid_width, width):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, config.num_classes + 1, 1))


def _fine_layer(channels: int, config: ModelConfig) -> ConvNorm:
    """Starts at nothing, so that a trained network can be given one."""
    layer = xavier(conv_norm(channels, config.bases.width, 1, norm=config.bases.norm))
    last = layer.norm if isinstance(layer.norm, nn.BatchNorm2d | nn.GroupNorm) else layer.conv
    nn.init.zeros_(last.weight)
    return layer
