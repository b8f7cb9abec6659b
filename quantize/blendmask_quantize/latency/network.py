"""The latency of a network as a function of its widths: measured once as a whole, then layer by layer from a table."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import torch

from blendmask_calibration.estimators import Range
from blendmask_edge.benchmark.disturbance import other_work, read_cpu_times
from blendmask_edge.runtimes.base import SessionOptions
from blendmask_edge.runtimes.registry import select
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.latency.shapes import ConvShape, conv_shapes
from blendmask_quantize.latency.table import LatencyTable, LayerTimes, layer_times, timed_widths
from blendmask_quantize.latency.timing import THREADS, time_call
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.input_size import padded_test_size
from blendmask_quantize.pruning.budget import Cost
from blendmask_quantize.pruning.channel_pruning import CostOf
from blendmask_quantize.pruning.groups import ChannelGroup
from blendmask_quantize.pruning.options import LATENCY, NOUNS, PruneOptions
from blendmask_quantize.quantization.placement import calibration_points
from blendmask_quantize.quantization.ptq import render
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.runs.progress import Progress, silent

_LOG = logging.getLogger(__name__)
_SECONDS = 2.0
_ANY_RANGE = 4.0
_HIGH_SCORE = 0.99
_MOST_IN_LAYERS = 0.95


@dataclass(frozen=True)
class LatencyModel:
    """Predicts the latency of the INT8 graph of a network, for a frame without instances.

    Attributes:
        network_ms: time of the graph of the whole network, measured.
        shapes: calls of each convolution, by the name of its module.
        table: times of layers.
        progress: announces what is measured.
    """

    network_ms: float
    shapes: dict[str, list[ConvShape]]
    table: LatencyTable
    progress: Progress = silent

    def cost(self, model: BlendMask, groups: Sequence[ChannelGroup]) -> Cost:
        """Return the latency as a function of the widths of channel groups, in milliseconds; see `pruning.budget.Cost`.

        The times of the layers are scaled down if they exceed that of the network, as they do where a runtime overlaps
        them.
        """
        written = {name for group in groups for name in group.writers}
        read = {reader.layer for group in groups for reader in group.readers}
        rows = {
            name: [timed_widths(shape, inputs=name in read, outputs=name in written) for shape in calls]
            for name, calls in self.shapes.items()
        }
        self.table.measure_all(
            (shape for calls in rows.values() for call in calls for row in call for shape in row), self.progress
        )
        times = {name: [layer_times(self.table, call) for call in calls] for name, calls in rows.items()}
        whole = sum(_price(times[name], calls[0].inputs, calls[0].outputs) for name, calls in self.shapes.items())
        scale = min(1.0, _MOST_IN_LAYERS * self.network_ms / max(whole, 1e-9))

        def price(name: str, inputs: int, outputs: int) -> float:
            return scale * _price(times[name], inputs, outputs)

        layers = dict(model.named_modules())
        left = [name for name in self.shapes if name in layers]
        return Cost(
            model, groups, left, price, fixed=self.network_ms - scale * whole, what=NOUNS[LATENCY],
            multiple=self.table.multiple(self.progress),
        )  # fmt: skip


def latency_cost(
    model: BlendMask, size: tuple[int, int] | None, options: PruneOptions, progress: Progress = silent
) -> CostOf | None:
    """Return the latency as a function of widths if it is the target of pruning; None for another target.

    Args:
        model: the network.
        size: height and width of its input; the padded test size of a 4:3 image if left out.
        options: of pruning.
        progress: announces what is measured.

    Raises:
        RuntimeUnavailableError: the runtime is not installed.
    """
    if options.target != LATENCY:
        return None
    return latency_model(model, size or padded_test_size(model.config.input), options.runtime, progress).cost


def latency_model(
    model: BlendMask,
    size: tuple[int, int],
    runtime: str,
    progress: Progress = silent,
    table: LatencyTable | None = None,
) -> LatencyModel:
    """Measure a network as a whole, unless the table has it.

    Args:
        model: the network.
        size: height and width of its input.
        runtime: name of the runtime.
        progress: announces what is measured.
        table: of the runtime; that of this machine if left out.

    Raises:
        RuntimeUnavailableError: the runtime is not installed.
    """
    known = LatencyTable.of_machine(runtime) if table is None else table
    name = _network_name(model, size)
    if name not in known.entries:
        on_step, before = progress(f"timing the network under {runtime}", 1), read_cpu_times()
        milliseconds = time_network(model, size, runtime)
        sign = other_work(before, read_cpu_times())
        known.add({name: milliseconds}, sign)
        if sign:
            _LOG.warning("%s The latency is predicted from %.1f ms, which is not kept.", sign, milliseconds)
        on_step()
    return LatencyModel(known.entries[name], conv_shapes(model, size), known, progress)


def time_network(model: BlendMask, size: tuple[int, int], runtime: str) -> float:
    """Return the time of the INT8 `cpu` graph in milliseconds, for a frame without instances."""
    with int8_graph(model, size, runtime) as run:
        return time_call(run, _SECONDS)


@contextmanager
def int8_graph(model: BlendMask, size: tuple[int, int], runtime: str) -> Iterator[Callable[[], object]]:
    """Load the INT8 `cpu` graph of a network; yields a function that runs it on a frame without instances.

    Weights and ranges do not change the time, so that nothing is calibrated.

    Args:
        model: the network.
        size: height and width of its input.
        runtime: name of the runtime.
    """
    traced = trace_network(model)
    ranges = {
        point.node: Range(-_ANY_RANGE if point.signed else 0.0, _ANY_RANGE) for point in calibration_points(traced)
    }
    graph = DeployableGraph(model, render(traced, ranges, "cpu"), size, Bounds(), live_rows=True).eval()
    with torch.no_grad():
        exported = export_onnx(graph).SerializeToString()
    session = select(runtime).load().load(exported, SessionOptions(THREADS, _HIGH_SCORE))
    image = np.full((1, *size, 3), 127, np.uint8)
    try:
        yield lambda: session.run(image)
    finally:
        session.close()


def _price(calls: Sequence[LayerTimes], inputs: int, outputs: int) -> float:
    return sum(call.at(inputs, outputs) for call in calls)


def _network_name(model: BlendMask, size: tuple[int, int]) -> str:
    config = msgspec.json.encode(replace(model.config, name=""))
    return f"network {hashlib.sha256(config).hexdigest()} {size[0]}x{size[1]}"
