"""Estimate: how well does the roofline of `blendmask check --estimate` predict layers that it was not fitted on?

    make demo
    python -m bench.studies.estimate

ONNX Runtime's profiler gives the time of each INT8 convolution of the shipped `cpu` graph on this CPU, one thread. Two
numbers, a rate and a bandwidth, are fitted on every second of them (`onnxruntime/fitted`) and predict the others
(`onnxruntime/held_out`). `factor_p50` is the median of the larger of prediction over time and time over prediction.
It says how far the form of the model holds, and nothing of a GPU: the shares for those are not fitted here.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from bench.lib.study import run_study, study_parser, write_study
from blendmask_edge import Bundle
from blendmask_edge.benchmark.disturbance import other_work, read_cpu_times
from blendmask_edge.bundle.graph_cost import LayerCost, graph_cost
from blendmask_edge.bundle.tensors import INPUT_NAME, constant_inputs
from blendmask_edge.devices.roofline import Assumptions, layer_seconds
from blendmask_edge.devices.table import Rates

_BUNDLE = Path(__file__).parents[2] / "out" / "demo" / "lite0_rt.bmz"
_WHOLE = Assumptions(efficiency=1.0, bandwidth=1.0, unfused=1.0)
_INT8_OVER_FLOAT = 4
"""Rate of INT8 products over that of float32 ones, by the width of the instructions."""
_TOPS = np.geomspace(0.02, 2.0, 60)
_GB_S = np.geomspace(0.5, 60.0, 60)
_FRAMES, _WARM_UP = 60, 10
_KERNEL, _ADDED = "_kernel_time", re.compile(r"_token_\d+$")
"""What ONNX Runtime adds to the name of a node."""


def main() -> None:
    """Profile, fit, predict, and write bench/results/estimate.json."""
    options = _parse_arguments()
    before = read_cpu_times()
    profiled = profile(Bundle.open(options.bundle), options.frames)
    disturbed = int(bool(other_work(before, read_cpu_times())))
    costs, seconds = list(profiled), np.array(list(profiled.values()))
    rates = fit(costs[::2], seconds[::2])
    rows = [
        {"name": f"onnxruntime/{part}", **quality(costs[start::2], seconds[start::2], rates), "other_work": disturbed}
        for start, part in enumerate(("fitted", "held_out"))
    ]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    print(f"Written: {write_study('estimate', rows, options.output)}")


def profile(bundle: Bundle, frames: int) -> dict[LayerCost, float]:
    """Median seconds of each INT8 convolution of the `cpu` graph, by its cost."""
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.enable_profiling = True
    size = bundle.manifest.input
    image = np.random.default_rng(0).integers(0, 256, (1, size.height, size.width, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(bundle.graph("cpu"), settings, providers=["CPUExecutionProvider"])
        names = {entry.name for entry in session.get_inputs()}
        feed = {INPUT_NAME: image, **{name: array for name, array in constant_inputs().items() if name in names}}
        for _ in range(_WARM_UP + frames):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return convolutions(bundle.graph("cpu"), events)


def convolutions(graph: bytes, events: Sequence[Mapping[str, Any]]) -> dict[LayerCost, float]:
    """Median seconds of each INT8 convolution of a profile after the first frames, by cost, in the graph's order."""
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("args", {}).get("op_name") == "QLinearConv" and event["name"].endswith(_KERNEL):
            times[_ADDED.sub("", event["name"].removesuffix(_KERNEL))].append(1e-6 * event["dur"])
    nodes = {node.output[0]: node.name for node in onnx.load_from_string(graph).graph.node}
    timed = {layer: times.get(nodes[layer.name], []) for layer in graph_cost(graph).layers}
    return {layer: float(np.median(found[_WARM_UP:])) for layer, found in timed.items() if found}


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
    parser.add_argument("--frames", type=int, default=_FRAMES, help="frames that are timed")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
