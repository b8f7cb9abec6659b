"""EfficientNet-Lite0 backbone: inverted residuals, ReLU6, no squeeze-and-excitation, TensorFlow SAME padding.

Block table of EfficientNet-B0 (Tan and Le, ICML 2019) with the fixed stem and head of the Lite variants.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from blendmask_quantize.model.config import BackboneConfig
from blendmask_quantize.model.layers import conv_norm

EPS = 1e-3
STEM_WIDTH = 32
STAGES = (  # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class InvertedResidual(nn.Module):
    """Pointwise expansion, depthwise convolution, linear projection; a skip where the shapes agree."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int, norm: str
    ) -> None:
        super().__init__()
        mid = in_channels * expansion
        self.expand = conv_norm(in_channels, mid, 1, norm=norm, eps=EPS) if expansion > 1 else None
        self.depthwise = conv_norm(mid, mid, kernel, stride=stride, norm=norm, groups=mid, same=True, eps=EPS)
        self.project = conv_norm(mid, out_channels, 1, norm=norm, eps=EPS)
        self.skips = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` (N, C, H, W) to (N, C', H / stride, W / stride)."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.skips else y


class Lite0(nn.Module):
    """Stem and seven stages; `widths` are the channels of the features at strides 4, 8, 16 and 32."""

    widths = (STAGES[1][4], STAGES[2][4], STAGES[4][4], STAGES[6][4])

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.stem = conv_norm(3, STEM_WIDTH, 3, stride=2, norm=config.norm, same=True, eps=EPS)
        blocks, channels = [], STEM_WIDTH
        for count, kernel, stride, expansion, width in STAGES:
            stage = []
            for index in range(count):
                stage.append(
                    InvertedResidual(channels, width, kernel, stride if index == 0 else 1, expansion, config.norm)
                )
                channels = width
            blocks.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*blocks)

    def stages(self) -> list[nn.Module]:
        """The parts in order, the stem first, for freezing."""
        return [self.stem, *self.blocks]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features of strides 4, 8, 16 and 32 for a normalized image (N, 3, H, W), sides multiples of 32."""
        x = F.relu6(self.stem(x))
        features = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return features[1], features[2], features[4], features[6]
