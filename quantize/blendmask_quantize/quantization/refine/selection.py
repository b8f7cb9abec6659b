"""Which estimator for which tensor: the one whose range spoils least of what the tensor's readers compute.

The error of a tensor's own rounding would always favor the estimator that minimizes just that. What counts is what
comes of it: each convolution, sum or resizing that reads the tensor is run on images with the tensor rounded over
each of the ranges, and its result, behind the activation that follows, is compared with the float one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from blendmask_calibration.estimators import Estimator, Range
from blendmask_calibration.histogram import Histogram
from blendmask_quantize.quantization.nodes import fused_activation, kind, tensor_inputs
from blendmask_quantize.quantization.placement import COMMUTING, VARIANTS, calibration_points, place, rounding_of
from blendmask_quantize.quantization.ptq import point_range
from blendmask_quantize.quantization.quantizer import QuantizationParameters, activation_qparams, quantize_dequantize

FIRST = "mse"
"""The estimator of a tensor unless another one is clearly better."""
_CLEARLY = 0.99


@dataclass(frozen=True)
class Choice:
    """The estimator that a tensor takes, and the error of each: of the readers' results over their variance, summed."""

    estimator: str
    range: Range
    errors: Mapping[str, float]


@dataclass(frozen=True)
class _Reading:
    """A rounded tensor in the hands of a node that computes with it.

    Attributes:
        operand: the node whose value is rounded.
        tensor: name of the tensor whose range it takes.
        variant: in which it is rounded.
    """

    operand: fx.Node
    tensor: str
    variant: str


@torch.no_grad()
def choose_ranges(
    traced: fx.GraphModule, histograms: Mapping[str, Histogram], estimators: Mapping[str, Estimator],
    inputs: Iterable[Tensor],
) -> dict[str, Choice]:  # fmt: skip
    """The best estimator for every tensor that some variant rounds, by node name.

    Args:
        traced: from `trace_network`.
        histograms: from `observe`.
        estimators: by name; the errors of `FIRST`, where it is among them, are the ones to beat by 1 %.
        inputs: normalized images (N, 3, H, W) to measure on, a few.
    """
    points = calibration_points(traced)
    tried = {
        point.node: {
            name: point_range(estimator, histograms[point.node], signed=point.signed)
            for name, estimator in estimators.items()
        }
        for point in points
    }
    trial = _Trial(traced, tried)
    for x in inputs:
        trial.run(x)
    return {point.node: _best(tried[point.node], trial.errors[point.node]) for point in points}


def _best(tried: Mapping[str, Range], errors: Mapping[str, float]) -> Choice:
    first = FIRST if FIRST in tried else next(iter(tried))
    best = min(tried, key=lambda name: errors[name])
    chosen = best if errors[best] < _CLEARLY * errors[first] else first
    return Choice(chosen, tried[chosen], dict(errors))


class _Trial(fx.Interpreter):
    """Runs the float network, and each reader of a rounded tensor once for every range of it."""

    def __init__(self, traced: fx.GraphModule, tried: Mapping[str, Mapping[str, Range]]) -> None:
        super().__init__(traced, garbage_collect_values=True)
        self.traced, self.tried, self.readings = traced, tried, _readings(traced)
        self.errors = {tensor: dict.fromkeys(ranges, 0.0) for tensor, ranges in tried.items()}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        readings = self.readings.get(n, [])
        if readings:
            activation = fused_activation(self.traced, n)
            expected = self._activated(activation, result)
            power = (expected - expected.mean(dim=(2, 3), keepdim=True)).square().sum().item()
            for reading in readings:
                self._try(n, reading, activation, expected, max(power, 1e-12))
        return result

    def _try(
        self, node: fx.Node, reading: _Reading, activation: fx.Node | None, expected: Tensor, power: float
    ) -> None:
        known: dict[QuantizationParameters, float] = {}
        errors = self.errors[reading.tensor]
        for name, candidate in self.tried[reading.tensor].items():
            qparams = activation_qparams(candidate.low, candidate.high, reading.variant)
            if qparams not in known:
                result = self._activated(activation, self._with_rounded(node, reading.operand, qparams))
                known[qparams] = (result - expected).square().sum().item() / power
            errors[name] += known[qparams]

    def _with_rounded(self, node: fx.Node, operand: fx.Node, qparams: QuantizationParameters) -> Tensor:
        rounded = quantize_dequantize(self.env[operand], qparams.scale, qparams.zero_point, qparams.low, qparams.high)
        args, kwargs = map_arg((node.args, node.kwargs), lambda other: rounded if other is operand else self.env[other])
        result: Tensor = getattr(self, node.op)(node.target, args, kwargs)
        return result

    def _activated(self, activation: fx.Node | None, value: Tensor) -> Tensor:
        if activation is None:
            return value
        result: Tensor = getattr(self, activation.op)(activation.target, (value,), activation.kwargs)
        return result


def _readings(traced: fx.GraphModule) -> dict[fx.Node, list[_Reading]]:
    """The rounded tensors of every node that computes with them, in every variant that rounds them."""
    readings: dict[fx.Node, list[_Reading]] = {}
    for variant in VARIANTS:
        points = {point.node: point for point in place(traced, variant).points}
        for node in traced.graph.nodes:
            if kind(traced, node) in (*COMMUTING, "input", "output", "relu"):
                continue
            for operand in tensor_inputs(node):
                point = rounding_of(traced, operand, points)
                if point is not None:
                    readings.setdefault(node, []).append(_Reading(operand, point.range_of, variant))
    return readings
