"""Estimate the latency of a graph on a device that is not here, by a roofline: each layer takes the longer of its
arithmetic at a share of the peak rate and its memory traffic at a share of the bandwidth, plus a launch.

An estimate is never a measurement. The shares are those of typical convolution networks, not of this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Union

from blendmask_edge.bundle.graph_cost import GraphCost, LayerCost, graph_cost
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.devices.case import COMPILING_RUNTIMES
from blendmask_edge.devices.result import CheckResult, as_precision
from blendmask_edge.devices.table import Rates, Table, Target, load_table
from blendmask_edge.errors import ConfigError
from blendmask_edge.hardware.architectures import Precision
from blendmask_edge.hardware.facts import Fact
from blendmask_edge.storage.atomic import PathLike

LEFT_OUT = (
    "copies of the image and of the results, resizing, pasting of masks, power modes below the highest, thermal "
    "limits, layers that TensorRT runs in another precision, the first call"
)
_DEPTHWISE_SHARE = 0.25


@dataclass(frozen=True)
class Assumptions:
    """Shares of what a device could do at best.

    Attributes:
        efficiency: of the peak rate of arithmetic.
        bandwidth: of the bandwidth of the memory.
        unfused: of the layers without products that run by themselves; the rest is fused into others.
    """

    efficiency: float
    bandwidth: float
    unfused: float


LIKELY = Assumptions(efficiency=0.28, bandwidth=0.55, unfused=0.5)
BEST = Assumptions(efficiency=0.6, bandwidth=0.8, unfused=0.25)
WORST = Assumptions(efficiency=0.15, bandwidth=0.5, unfused=1.0)


@dataclass(frozen=True)
class Estimate:
    """Estimated latency of the network on a device, batch 1. Estimated, not measured; allow a factor of 2 either way.

    Attributes:
        target: name of the device.
        likely_ms: milliseconds a frame.
        best_ms: lower end of the range.
        worst_ms: upper end of the range.
        fixed_ms: part of `likely_ms` that goes into launches, whatever the size of the layers.
        layers: layers that take time of their own, before the fusion of those without products.
        macs: multiply-accumulates.
        traffic_bytes: bytes read and written by all layers.
        weight_bytes: constants of the graph.
        activation_bytes: most bytes of intermediate tensors at once, in the precision of the float layers.
        rates: device and peak rates that it rests on.
        left_out: work that it does not contain.
    """

    target: str
    likely_ms: float
    best_ms: float
    worst_ms: float
    fixed_ms: float
    layers: int
    macs: int
    traffic_bytes: int
    weight_bytes: int
    activation_bytes: int
    rates: str
    left_out: str = LEFT_OUT


def estimate(bundle: Union[Bundle, PathLike], target: str, *, precision: str = "int8") -> Estimate:
    """Estimate the latency of a bundle on a device with a GPU. Nothing is run; the result is not a measurement.

    Args:
        bundle: path of a bundle, or an opened one.
        target: name or alias of a device, as listed by `blendmask targets`.
        precision: "int8" for the tensorrt graph, "fp16" or "fp32" for the float graph.

    Raises:
        ConfigError: the target or precision is unknown, or there is no estimate for the target.
        BundleError: the bundle is not valid, or lacks the graph.

    Example:
        >>> from blendmask_edge import ConfigError, estimate
        >>> try:
        ...     print(estimate("model.bmz", "x86-vnni").likely_ms)
        ... except ConfigError as error:
        ...     print(error)  # there are estimates for GPUs only
        There is no estimate for x86-64 CPU with VNNI...
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    table, wanted = load_table(), as_precision(precision)
    device = table.find(target)
    if device.rates is None:
        raise ConfigError(
            f"There is no estimate for {device.title}. Measure there: blendmask bench {opened.path} --images D "
            "--annotations J"
        )
    graph = opened.graph("tensorrt" if wanted == "int8" else "float")
    return _estimate(graph_cost(graph), device, device.rates, wanted, table)


def estimate_route(bundle: Bundle, result: CheckResult) -> Optional[Estimate]:
    """Return the estimate of the route that a check found to work; None where there is none, or none on a GPU.

    Raises:
        BundleError: the graph cannot be read.
    """
    route, table = result.route, load_table()
    if route is None or route.needs or route.runtime not in COMPILING_RUNTIMES or route.variant is None:
        return None
    cost = graph_cost(bundle.graph(route.variant))
    return estimate_graph(cost, table.find(result.target), route.precision, table)


def estimate_graph(cost: GraphCost, target: Target, precision: Precision, table: Table) -> Optional[Estimate]:
    """Return the estimate of a graph on a target; None where the table has no rates of it."""
    return _estimate(cost, target, target.rates, precision, table) if target.rates is not None else None


def _estimate(cost: GraphCost, target: Target, fact: Fact[Rates], precision: Precision, table: Table) -> Estimate:
    rates, architecture = fact.value, table.architecture_of(target)
    is_half = precision != "fp32" and architecture is not None and architecture.fp16.value != "slow"
    width = 2 if is_half else 4
    likely, best, worst = (_seconds(cost, rates, width, shares) for shares in (LIKELY, BEST, WORST))
    return Estimate(
        target=target.name,
        likely_ms=1e3 * likely,
        best_ms=1e3 * best,
        worst_ms=1e3 * worst,
        fixed_ms=1e3 * sum(_share(layer, LIKELY) for layer in cost.layers) * rates.launch_us * 1e-6,
        layers=len(cost.layers),
        macs=cost.macs,
        traffic_bytes=sum(_bytes(layer, width) for layer in cost.layers),
        weight_bytes=cost.weight_bytes,
        activation_bytes=width * cost.live_elements,
        rates=f"{rates} [{fact.mark}: {fact.source}]",
    )


def layer_seconds(layer: LayerCost, rates: Rates, width: int, shares: Assumptions) -> float:
    """Return the seconds of one layer, without its launch.

    Args:
        layer: the layer.
        rates: of the device; depthwise convolutions run at a quarter of its float rate.
        width: bytes of an element that is not INT8.
        shares: what the device reaches of its rates.
    """
    peak = (rates.int8_tops or rates.float_tflops) if layer.is_int8 else rates.float_tflops
    if layer.is_depthwise:
        peak = _DEPTHWISE_SHARE * rates.float_tflops
    arithmetic = 2 * layer.macs / (shares.efficiency * peak * 1e12)
    return max(arithmetic, _bytes(layer, width) / (shares.bandwidth * rates.bandwidth_gb_s * 1e9))


def _seconds(cost: GraphCost, rates: Rates, width: int, shares: Assumptions) -> float:
    launch = rates.launch_us * 1e-6
    return sum(_share(layer, shares) * (layer_seconds(layer, rates, width, shares) + launch) for layer in cost.layers)


def _share(layer: LayerCost, shares: Assumptions) -> float:
    return 1.0 if layer.macs else shares.unfused


def _bytes(layer: LayerCost, width: int) -> int:
    return layer.int8_elements + width * layer.float_elements
