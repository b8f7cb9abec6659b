"""The quantized network as one that can be trained: rounding forward, straight through backward.

Weights keep a symmetric scale a channel, recomputed from their largest magnitude at every step, as Jacob et al.
("Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 3.1)
do. The ranges of activations are learned: the gradient of a step is that of Esser et al. ("Learned Step Size
Quantization", ICLR 2020, equation 3), taken of the logarithm of the range as Jain et al. ("Trained Quantization
Thresholds", MLSys 2020, section 3) advise, so that one learning rate suits every range.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from blendmask_calibration.estimators import Range
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.quantization.insertion import insert
from blendmask_quantize.quantization.placement import Point, place
from blendmask_quantize.quantization.ptq import Calibrated, activation_qparams_by_name
from blendmask_quantize.quantization.quantizer import (
    QuantizationParameters,
    dequantize_channels,
    round_weight,
    weight_scales,
)


class FakeQuantNetwork(nn.Module):
    """One set of trainable weights and ranges, seen through the quantizers of some variants.

    Before any step, and after any number of them, the network of a variant computes what the rendered one computes, up
    to ties of rounding.

    Args:
        start: float weights and calibrated ranges.
        variants: which quantized networks to offer.
        frozen: names of modules, as in the traced network, whose weights are not trained, see `stage_names`. The ranges
            of tensors that no trained weight reaches are not trained either.
    """

    def __init__(self, start: Calibrated, variants: Sequence[str], frozen: Sequence[str] = ()) -> None:
        super().__init__()
        self.weights = copy.deepcopy(start.traced).requires_grad_(True)
        self.start = dict(start.ranges)
        modules, nodes = _fixed(self.weights, frozen)
        for name in modules:
            self.weights.get_submodule(name).requires_grad_(False)
        self.log_growth = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(()), requires_grad=name not in nodes) for name in start.ranges}
        )
        # A plain dictionary: the networks hold the very parameters that are registered above.
        self.networks = {variant: self._network(variant) for variant in variants}

    def forward(self, x: Tensor, variant: str) -> Predictions:
        """Predictions of a variant's network for a normalized batch (N, 3, H, W)."""
        predictions: Predictions = self.networks[variant](x)
        return predictions

    def calibrated(self) -> Calibrated:
        """The weights and ranges as they are now, on the CPU, to be rendered."""
        traced = copy.deepcopy(self.weights).requires_grad_(False).cpu()
        growth = {name: math.exp(value.item()) for name, value in self.log_growth.items()}
        ranges = {name: Range(r.low * growth[name], r.high * growth[name]) for name, r in self.start.items()}
        return Calibrated(traced, ranges)

    def _network(self, variant: str) -> fx.GraphModule:
        placement = place(self.weights, variant)
        qparams_list = activation_qparams_by_name(placement, self.start, variant)
        quantizers = {
            point.node: TrainableQuantizer(qparams_list[point.node], self.log_growth[point.range_of])
            for point in placement.points
        }

        def rounded_conv(conv: nn.Conv2d, source: Point) -> nn.Module:
            high = self.start[source.range_of].high
            return RoundedConv2d(conv, quantizers[source.node], high, integer_bias=variant == "cpu")

        shared = fx.GraphModule(self.weights, copy.deepcopy(self.weights.graph))
        return insert(shared, placement, rounded_conv, lambda point: quantizers[point.node])


class TrainableQuantizer(nn.Module):
    """Quantizes a tensor with a scale that grows by a learned factor.

    Args:
        qparams: scale and zero point at the start.
        log_growth: scalar, natural logarithm of the factor; may be shared.
    """

    def __init__(self, qparams: QuantizationParameters, log_growth: nn.Parameter) -> None:
        super().__init__()
        self.qparams, self.log_growth = qparams, log_growth

    @property
    def growth(self) -> Tensor:
        """The factor now, a scalar without gradient."""
        return self.log_growth.detach().exp()

    @property
    def scale(self) -> Tensor:
        """The step now, a float32 scalar without gradient."""
        return torch.tensor(self.qparams.scale, dtype=torch.float32, device=self.log_growth.device) * self.growth

    def forward(self, x: Tensor) -> Tensor:
        """`x` rounded, as float32 values of the same shape."""
        rounded: Tensor = _RoundToQparams.apply(x.float(), self.log_growth, self.scale, self.qparams)
        return rounded


class RoundedConv2d(nn.Module):
    """A convolution that rounds its float weight as it goes, as `IntegerConv2d` once did; its bias too where asked.

    Args:
        conv: holds the float weight and bias; trained.
        source: the quantizer of the input.
        input_high: upper end of the input's range at the start; see `weight_scales`.
        integer_bias: round the bias to steps of input times weight.
    """

    def __init__(self, conv: nn.Conv2d, source: TrainableQuantizer, input_high: float, *, integer_bias: bool) -> None:
        super().__init__()
        self.conv, self.source = conv, source
        self.input_high, self.integer_bias = input_high, integer_bias

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `x` (N, C, H, W)."""
        weight, bias = self.conv.weight, self.conv.bias
        scale = weight_scales(weight, bias, self.input_high * self.source.growth.item())
        rounded = dequantize_channels(round_weight(weight, scale), scale)
        if bias is not None and self.integer_bias:
            step = scale * self.source.scale
            bias = _StraightThrough.apply(bias, torch.round(bias.detach() / step) * step)
        return self.conv._conv_forward(x, _StraightThrough.apply(weight, rounded), bias)


def stage_names(model: BlendMask, count: int) -> tuple[str, ...]:
    """Module names of the backbone's first `count` stages, the stem counted first."""
    names = {id(module): name for name, module in model.named_modules()}
    return tuple(names[id(stage)] for stage in model.backbone.bottom_up.stages()[:count])


class _StraightThrough(torch.autograd.Function):
    """The second argument forward, the gradient to the first backward (Bengio et al. 2013, arXiv 1308.3432)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, rounded: Tensor) -> Tensor:  # noqa: ARG004
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return grad, None


class _RoundToQparams(torch.autograd.Function):
    """Round and clip; inside the range the gradient passes, outside it goes to the range alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log_growth: Tensor, scale: Tensor, qparams: QuantizationParameters) -> Tensor:  # noqa: ARG004
        lowest, highest = qparams.low - qparams.zero_point, qparams.high - qparams.zero_point
        rounded = (x / scale).round_().clamp_(lowest, highest).mul_(scale)
        ctx.save_for_backward(x, rounded)
        half = scale.item() / 2
        ctx.inside = (lowest * scale.item() - half, highest * scale.item() + half)
        return rounded

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        x, rounded = ctx.saved_tensors
        low, high = ctx.inside
        passed = grad * ((x >= low) & (x <= high))
        to_range = (grad * rounded).sum() - (passed * x).sum() if ctx.needs_input_grad[1] else None
        return passed, to_range, None, None


def _fixed(traced: fx.GraphModule, frozen: Sequence[str]) -> tuple[set[str], set[str]]:
    """Names of the modules under `frozen`, and of the nodes whose value no other weight reaches."""
    modules: set[str] = set()
    nodes: set[str] = set()
    for node in traced.graph.nodes if frozen else ():
        name = str(node.target)
        module = traced.get_submodule(name) if node.op == "call_module" else nn.Identity()
        is_frozen = node.op == "call_module" and any(f"{name}.".startswith(f"{prefix}.") for prefix in frozen)
        if is_frozen:
            modules.add(name)
        trained = not is_frozen and next(module.parameters(), None) is not None
        if not trained and all(source.name in nodes for source in node.all_input_nodes):
            nodes.add(node.name)
    return modules, nodes
