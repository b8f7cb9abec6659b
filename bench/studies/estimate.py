"""Estimate: how well does the roofline of `blendmask check --estimate` predict layers that it was not fitted on?

    make demo
    python -m bench.studies.estimate

ONNX Runtime's and OpenVINO's profilers give the time of each INT8 convolution of the shipped `cpu` graph on this CPU,
one thread: the least of many frames, which other work of the machine disturbs least. Two numbers, a rate and a
bandwidth, are fitted on every second of them (`RUNTIME/fitted`) and predict the others (`RUNTIME/held_out`).
`factor_p50` is the median of the larger of prediction over time and time over prediction. It says how far the form of
the model holds; the shares for GPUs are not fitted here. On x86 without VNNI (`without_vnni`) the SDK takes slower,
exact INT8 kernels in ONNX Runtime and float32 arithmetic in OpenVINO, so the rows are of these.

`published/NETWORK` compares the estimate for a Jetson Orin Nano Super with published INT8 times of YOLO11 on it: in
`passed`, whether the time lies in the range. Those networks come from ultralytics, which is optional. Rows that a call
does not measure, for want of ultralytics or by `--only`, stay as they are in the file.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.lib.frame_parts import node_of
from bench.lib.published_times import published_rows
from bench.lib.sessions import CONVOLUTIONS, RUNTIMES, Layers, layer_times
from bench.lib.study import read_rows, run_study, study_parser, write_study
from blendmask_edge import Bundle
from blendmask_edge.benchmark.disturbance import other_work, read_cpu_times
from blendmask_edge.bundle.graph_cost import LayerCost, graph_cost
from blendmask_edge.bundle.tensors import INPUT_NAME, constant_inputs
from blendmask_edge.devices.roofline import Assumptions, layer_seconds
from blendmask_edge.devices.table import Rates
from blendmask_edge.hardware.cpu import saturates_int8

_BUNDLE = Path(__file__).parents[2] / "out" / "demo" / "lite0_rt.bmz"
_WHOLE = Assumptions(efficiency=1.0, bandwidth=1.0, unfused=1.0)
_INT8_OVER_FLOAT = 4
"""Rate of INT8 products over that of float32 ones, by the width of the instructions."""
_TOPS = np.geomspace(0.02, 2.0, 60)
_GB_S = np.geomspace(0.5, 60.0, 60)
_FRAMES = 100
_TARGET_FACTOR = 1.25
_CPU, _PUBLISHED = "cpu", "published"


def main() -> None:
    """Profile, fit, predict, and write bench/results/estimate.json."""
    options = _parse_arguments()
    bundle, runtimes = Bundle.open(options.bundle), () if options.only == _PUBLISHED else RUNTIMES
    rows = [row for runtime in runtimes for row in runtime_rows(runtime, bundle, options.frames)]
    published = [] if options.only == _CPU else list(published_rows())
    for row in [*rows, *published]:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if not published and options.only != _CPU:
        print("no new rows of published times: type pip install ultralytics")
    measured = {row["name"]: row for row in [*rows, *published]}
    print(f"Written: {write_study('estimate', with_earlier(measured, options.output), options.output)}")


def with_earlier(measured: dict[str, dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Rows of a call, and those of earlier ones that it did not measure; layers first."""
    rows = {**read_rows("estimate", folder), **measured}
    return sorted(rows.values(), key=lambda row: row["name"].startswith(f"{_PUBLISHED}/"))


def runtime_rows(runtime: str, bundle: Bundle, frames: int) -> Iterator[dict[str, Any]]:
    """How well half of the layers of a runtime predict themselves, and the other half."""
    before = read_cpu_times()
    size = bundle.manifest.input
    profiled = profile(runtime, bundle.graph("cpu"), (size.height, size.width), frames)
    disturbed = int(bool(other_work(before, read_cpu_times())))
    costs, seconds = list(profiled), np.array(list(profiled.values()))
    rates = fit(costs[::2], seconds[::2])
    for start, part in enumerate(("fitted", "held_out")):
        row = {"name": f"{runtime}/{part}", **quality(costs[start::2], seconds[start::2], rates)}
        target = {"target_factor_p50": _TARGET_FACTOR, "passed": int(row["factor_p50"] <= _TARGET_FACTOR)}
        conditions = {"without_vnni": int(saturates_int8()), "other_work": disturbed}
        yield {**row, **(target if part == "held_out" else {}), **conditions}


def profile(runtime: str, graph: bytes, size: tuple[int, int], frames: int) -> dict[LayerCost, float]:
    """Least seconds of each INT8 convolution of a graph, by its cost.

    Args:
        runtime: one of `RUNTIMES`.
        graph: the ONNX file.
        size: height and width of its input.
        frames: number of runs.
    """
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
    names = {entry.name for entry in onnx.load_from_string(graph).graph.input}
    feed = {INPUT_NAME: image, **{name: array for name, array in constant_inputs().items() if name in names}}
    return convolutions(graph, layer_times(runtime, graph, feed, 1, frames, np.min))


def convolutions(graph: bytes, layers: Layers) -> dict[LayerCost, float]:
    """Seconds of each INT8 convolution of a profile, by cost, in the graph's order.

    Args:
        graph: the ONNX file.
        layers: from `layer_times` of this graph.
    """
    nodes = {node.output[0]: node.name for node in onnx.load_from_string(graph).graph.node}
    times = _by_node(layers, set(nodes.values()))
    costs = [cost for cost in graph_cost(graph).layers if cost.is_int8 and cost.operator == "Conv"]
    return {cost: times[nodes[cost.name]] for cost in costs if nodes[cost.name] in times}


def _by_node(layers: Layers, nodes: set[str]) -> dict[str, float]:
    """Seconds by node; a node that several layers could stand for is left out."""
    times: dict[str, list[float]] = defaultdict(list)
    for (name, kind), spent in layers.items():
        node = node_of(name, kind, nodes) if kind in CONVOLUTIONS else None
        if node is not None:
            times[node].append(1e-3 * spent)
    return {node: measured[0] for node, measured in times.items() if len(measured) == 1}


def fit(costs: Sequence[LayerCost], seconds: NDArray[np.float64]) -> Rates:
    """Rate and bandwidth whose predictions are off by the least median factor."""
    candidates = [_rates(float(tops), float(bandwidth)) for tops in _TOPS for bandwidth in _GB_S]
    return min(candidates, key=lambda rates: float(np.mean(np.log(factors(costs, seconds, rates)))))


def factors(costs: Sequence[LayerCost], seconds: NDArray[np.float64], rates: Rates) -> NDArray[np.float64]:
    """By which factor each prediction is off, 1 or more."""
    ratios = predictions(costs, rates) / seconds
    return np.asarray(np.maximum(ratios, 1 / ratios))


def predictions(costs: Sequence[LayerCost], rates: Rates) -> NDArray[np.float64]:
    """Predicted seconds of layers."""
    return np.array([layer_seconds(cost, rates, 4, _WHOLE) for cost in costs])


def quality(costs: Sequence[LayerCost], seconds: NDArray[np.float64], rates: Rates) -> dict[str, Any]:
    """The metrics of a row."""
    off = factors(costs, seconds, rates)
    ranks = [np.argsort(np.argsort(values)) for values in (predictions(costs, rates), seconds)]
    return {
        "layers": len(costs),
        "factor_p50": round(float(np.median(off)), 3),
        "factor_p90": round(float(np.quantile(off, 0.9)), 3),
        "rank_correlation": round(float(np.asarray(np.corrcoef(np.stack(ranks)))[0, 1]), 3),
        "int8_tops": round(float(rates.int8_tops or 0), 4),
        "bandwidth_gb_s": round(rates.bandwidth_gb_s, 2),
    }


def _rates(tops: float, bandwidth: float) -> Rates:
    return Rates(
        device="this CPU", int8_tops=tops, float_tflops=tops / _INT8_OVER_FLOAT, bandwidth_gb_s=bandwidth, launch_us=0
    )


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--bundle", type=Path, default=_BUNDLE, help="bundle of the shipped model, as of `make demo`")
    parser.add_argument(
        "--only", choices=(_CPU, _PUBLISHED), help="times of this CPU, which must be idle, or published times"
    )
    parser.add_argument("--frames", type=int, default=_FRAMES, help="frames that are timed")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
