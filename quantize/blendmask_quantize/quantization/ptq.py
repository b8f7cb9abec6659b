"""Post-training quantization: observe ranges once, render every variant from them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from blendmask_calibration.estimators import Estimator, Range, RangeCollector, estimator_named
from blendmask_calibration.histogram import Histogram
from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.quantization.insertion import insert
from blendmask_quantize.quantization.placement import Placement, Point, calibration_points, place
from blendmask_quantize.quantization.quantizer import (
    ActivationQuantizer,
    IntegerConv2d,
    QuantizationParameters,
    activation_qparams,
    weight_scales,
)

OnImage = Callable[[Predictions], None]


class _Observer(fx.Interpreter):
    """Runs the graph and hands the chosen results to a collector."""

    def __init__(self, traced: fx.GraphModule, names: frozenset[str], collector: RangeCollector) -> None:
        super().__init__(traced)
        self.names, self.collector = names, collector

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.name in self.names:
            self.collector.observe(n.name, result.numpy())
        return result


@torch.no_grad()
def observe(
    traced: fx.GraphModule,
    inputs: Iterable[Tensor],
    on_image: OnImage | None = None,
    names: Collection[str] | None = None,
) -> dict[str, Histogram]:  # fmt: skip
    """Histograms of tensors by node name.

    Args:
        traced: from `trace_network`.
        inputs: normalized images (1, 3, H, W).
        on_image: called with the float predictions of each image.
        names: of the tensors; every tensor that some variant rounds if left out.
    """
    collector = RangeCollector()
    observer = _Observer(traced, rounded_tensors(traced) if names is None else frozenset(names), collector)
    for x in inputs:
        predictions = observer.run(x)
        if on_image is not None:
            on_image(predictions)
    return dict(collector.histograms)


def rounded_tensors(traced: fx.GraphModule) -> frozenset[str]:
    """Node names of the tensors that some variant rounds."""
    return frozenset(point.node for point in calibration_points(traced))


def estimate(traced: fx.GraphModule, histograms: Mapping[str, Histogram], estimator: str) -> dict[str, Range]:
    """Range of every tensor that some variant rounds, by node name.

    Args:
        traced: from `trace_network`.
        histograms: from `observe`.
        estimator: name of a range estimator of `blendmask_calibration`.

    Raises:
        CalibrationError: no estimator has that name (an error of `blendmask_calibration`).
    """
    chosen = estimator_named(estimator)
    return {
        point.node: point_range(chosen, histograms[point.node], signed=point.signed)
        for point in calibration_points(traced)
    }


def observe_ranges(
    traced: fx.GraphModule, inputs: Iterable[Tensor], estimator: str, on_image: OnImage | None = None
) -> dict[str, Range]:
    """`observe` and `estimate` in one; an unknown estimator is refused before any image is looked at."""
    estimator_named(estimator)
    return estimate(traced, observe(traced, inputs, on_image), estimator)


@dataclass(frozen=True)
class Calibrated:
    """One set of weights and ranges that each variant is rendered from; every recipe ends with one.

    Attributes:
        traced: the network whose weights are rounded, in float.
        ranges: of every tensor that some variant rounds, by node name.
    """

    traced: fx.GraphModule
    ranges: Mapping[str, Range]

    def render(self, variant: str) -> fx.GraphModule:
        """The quantized network of `variant`; see `render`."""
        return render(self.traced, self.ranges, variant)


def render(traced: fx.GraphModule, ranges: Mapping[str, Range], variant: str) -> fx.GraphModule:
    """A copy of the network with the quantizers and 8-bit weights of `variant` in place.

    Args:
        traced: from `trace_network`.
        ranges: from `observe_ranges`.
        variant: "cpu" or "tensorrt".
    """
    placement = place(traced, variant)
    qparams_list = activation_qparams_by_name(placement, ranges, variant)

    def integer_conv(conv: nn.Conv2d, source: Point) -> nn.Module:
        input_scale = qparams_list[source.node].scale if variant == "cpu" else None
        return IntegerConv2d(conv, weight_scales(conv.weight, conv.bias, ranges[source.range_of].high), input_scale)

    def quantizer(point: Point) -> nn.Module:
        return ActivationQuantizer(qparams_list[point.node])

    return insert(copy.deepcopy(traced), placement, integer_conv, quantizer)


def point_range(estimator: Estimator, histogram: Histogram, *, signed: bool) -> Range:
    """Range of one tensor. The placement says what can be negative; the few images seen may not show it."""
    high = estimator(histogram, 127 if signed else 255).high
    return Range(-high if signed else 0.0, high)


def activation_qparams_by_name(
    placement: Placement, ranges: Mapping[str, Range], variant: str
) -> dict[str, QuantizationParameters]:
    """The quantization parameters of each rounded tensor of a placement, by node name."""
    qparams_list = {}
    for point in placement.points:
        high = ranges[point.range_of].high
        qparams_list[point.node] = activation_qparams(-high if point.signed else 0.0, high, variant)
    return qparams_list
