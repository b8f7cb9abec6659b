"""How fast INT8 is, stage by stage, and what the machine would allow: image in, masks out, two threads.

    python -m bench.studies.speed

`rt_r50` is the reference's RT_R_50 with batch normalization in the head, at its test size for a 4:3 image, with
seeded random weights; `shipped` is the shipped checkpoint at its own. The bias of the class logits is set so that ten
instances of a 640x480 image pass. All graphs of a network are timed in turn, in one run, with the stages and the
machine's limit between them.

| row | what |
|---|---|
| `NETWORK/onnxruntime/dense` | float, coefficients by a convolution over all levels, as the reference computes them |
| `NETWORK/RUNTIME/float` | float, coefficients at kept locations |
| `NETWORK/RUNTIME/int8` | the `cpu` variant, with its stages |
| `NETWORK/RUNTIME/int8/layer/NAME` | a layer that takes longest beyond what the machine allows |

`speedup_vs_float` is the median of `dense` over that of the graph. `outside_share` is the part of the frame outside the
network: fitting the image, making instances, pasting their masks. `after_share` is selection, suppression, coefficients
and masks over the frame of `dense`. Each stage is timed as a graph of its own on what the stage before gave.
`gemm_ratio` is the time of the convolutions over that which the quickest of three INT8 matrix products, timed between
the frames, allows for the multiply-accumulates that the graph executes. All graphs compute masks for existing rows
only, so that `dense` has no other handicap than its name says.

Targets stand beside what was reached; `passed` is 1 where the network `rt_r50` reaches all of its own.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.float_baseline import DENSE
from bench.lib.graph_stages import cut
from bench.lib.limits import conv_macs, gemm_probes, gemm_rate, timed
from bench.lib.progress import stage
from bench.lib.scenes import CALIBRATION, CHECKPOINT
from bench.lib.sessions import CONVOLUTIONS, RUNTIMES, Arrays, Layers, RunGraph, layer_times, open_graph
from bench.lib.study import run_study, study_parser, write_study
from bench.lib.timed_networks import FLOAT, INT8, TimedNetwork, random_network, timed_network, trained_network
from blendmask_edge import MaskPredictor, read_image
from blendmask_edge.benchmark.side_by_side import THREADS, speedup
from blendmask_edge.bundle.tensors import INPUT_NAME, constant_inputs
from blendmask_edge.hardware.timing import WARM_UP, read_in_turn
from blendmask_edge.imaging import preprocess, resize
from blendmask_quantize.model.macs import padded_test_size

RT_R_50 = "RT_R_50_4x_bn-head_syncbn_shtw"
IMAGE_SIZE = (480, 640)
BASE = f"onnxruntime/{DENSE}"
TARGETS: dict[str, Any] = {
    "speedup_vs_float": {"onnxruntime": 2.5, "openvino": 4.0},
    "outside_share": 0.10,
    "gemm_ratio": 1.2,
    "after_share": 0.02,
}
"""At least the first, at most the others."""
_AFTER = ("selection", "coefficients", "masks")
_CALLS = ("preprocess", "run", "postprocess", "paste")
_LAYERS = 8


@dataclass
class Times:
    """Milliseconds of one network, round by round.

    Attributes:
        calls: by graph, `runtime/name`: of preparing, running, finishing, and pasting all masks.
        stages: by runtime and stage of the INT8 graph.
        products: by runtime and multiply-accumulates.
        counts: instances that each graph detects.
    """

    calls: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)
    stages: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    products: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def keep(self, key: tuple[Any, ...], readings: list[Any]) -> None:
        """Sort in the readings of ("calls", graph), ("stages", runtime, stage) or ("products", runtime, macs)."""
        kind, *names = key
        if kind == "calls":
            self.calls[names[0]] = readings
        elif kind == "stages":
            self.stages[names[0], names[1]] = readings
        else:
            self.products.setdefault(names[0], {})[names[1]] = readings


def main() -> None:
    """Measure and write bench/results/speed.json."""
    options = _parse_arguments()
    image, rows = resize(read_image(options.image), IMAGE_SIZE), []
    models = {"rt_r50": random_network(RT_R_50), "shipped": trained_network(options.checkpoint)}
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            size = options.size or padded_test_size(model.config.input)
            network = timed_network(model, size, image, Path(folder) / f"{name}.bmz")
            rows += network_rows(name, network, image, options)
    for row in rows:
        print(f"{row['name']:<60}" + "  ".join(f"{key} {row[key]:.4g}" for key in row if key != "name"))
    print(f"Written: {write_study('speed', rows, options.output)}")


def network_rows(
    name: str, network: TimedNetwork, image: NDArray[np.uint8], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of one network."""
    times = _measured(name, network, image, options)
    rows = []
    for graph in times.calls:
        row = {"name": f"{name}/{graph}", **_frame_columns(times, graph)}
        if graph.endswith(INT8):
            layers = _layers(graph.partition("/")[0], network, image, options)
            row |= _int8_columns(times, graph, network, layers) | _targets(graph.partition("/")[0])
            row["passed"] = int(_passes(row))
            rows += [row, *_layer_rows(row, layers, network)]
        else:
            rows.append(row)
    return rows


def _measured(name: str, network: TimedNetwork, image: NDArray[np.uint8], options: argparse.Namespace) -> Times:
    """Everything in turn, once a round; the first round warms up."""
    times, on_round = Times(), stage(name, options.rounds + 1)
    names = [BASE, *(f"{runtime}/{graph}" for runtime in RUNTIMES for graph in (FLOAT, INT8))]
    with ExitStack() as stack:
        predictors = {
            graph: stack.enter_context(
                MaskPredictor(
                    network.bundle,
                    graph.partition("/")[0],
                    options.threads,
                    score_threshold=0,
                    variant=graph.partition("/")[2],
                )
            )
            for graph in names
        }
        stages = _stages(network, image, options.threads)
        products = {runtime: gemm_probes(runtime, options.threads) for runtime in RUNTIMES}
        read: dict[Any, Callable[[int], Any]] = {
            **{
                ("calls", graph): partial(frame_milliseconds, each, image, times.counts, graph)
                for graph, each in predictors.items()
            },
            **{("stages", *key): partial(_milliseconds, run, given) for key, (run, given) in stages.items()},
            **{
                ("products", runtime, macs): partial(_milliseconds, run, given)
                for runtime, probes in products.items()
                for macs, run, given in probes
            },
        }
        for key, readings in read_in_turn(read, announced(range(WARM_UP, options.rounds), on_round)).items():
            times.keep(key, readings)
    return times


def announced(turns: Iterable[int], on_turn: Callable[[], None]) -> Iterator[int]:
    """The turns; `on_turn` is called after each."""
    for turn in turns:
        yield turn
        on_turn()


def frame_milliseconds(
    predictor: MaskPredictor, image: NDArray[np.uint8], counts: dict[str, int], graph: str, _: int
) -> tuple[float, ...]:
    """Milliseconds of preparing, running, finishing, and pasting all masks; `counts` gets the instances of `graph`."""
    instances = predictor(image)
    start = time.perf_counter()
    instances.crops()
    pasted = time.perf_counter() - start
    counts[graph] = len(instances)
    return tuple(1000 * seconds for seconds in (*predictor.timings, pasted))


def _milliseconds(run: RunGraph, given: Arrays, _: int) -> float:
    return timed(run, given)


def _stages(
    network: TimedNetwork, image: NDArray[np.uint8], threads: int
) -> dict[tuple[str, str], tuple[RunGraph, Arrays]]:
    """Each stage of the INT8 graph in each runtime, and what to give it."""
    stages: dict[tuple[str, str], tuple[RunGraph, Arrays]] = {}
    values: dict[str, NDArray[Any]] = graph_inputs(network, image)
    for part in cut(network.graphs[INT8]):
        given = {name: values[name] for name in part.inputs}
        for runtime in RUNTIMES:
            run = open_graph(runtime, part.model.SerializeToString(), threads)
            stages[runtime, part.name] = (run, given)
            values = {**run(given), **values}
    return stages


def graph_inputs(network: TimedNetwork, image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The inputs of a graph for an image (H, W, 3) uint8 RGB."""
    with MaskPredictor(network.bundle, "onnxruntime", 1, 0, variant=INT8) as predictor:
        prepared = preprocess(image, network.size, predictor.manifest.input.pad_value)
    return {INPUT_NAME: prepared.image, **constant_inputs()}


def _layers(runtime: str, network: TimedNetwork, image: NDArray[np.uint8], options: argparse.Namespace) -> Layers:
    graph = network.graphs[INT8].SerializeToString()
    return layer_times(runtime, graph, graph_inputs(network, image), options.threads, options.rounds)


def _frame_columns(times: Times, graph: str) -> dict[str, float]:
    whole = {name: [sum(call) for call in calls] for name, calls in times.calls.items()}
    parts = np.median(times.calls[graph], axis=0)
    outside = [1 - call[_CALLS.index("run")] / sum(call) for call in times.calls[graph]]
    return {
        "latency_p50_ms": _rounded(np.median(whole[graph])),
        "latency_p90_ms": _rounded(np.percentile(whole[graph], 90)),
        "speedup_vs_float": _rounded(speedup(whole, BASE, graph)),
        "outside_share": _rounded(np.median(outside)),
        "instances": times.counts[graph],
        **{f"{call}_ms": _rounded(part) for call, part in zip(_CALLS, parts, strict=True)},
    }


def _int8_columns(times: Times, graph: str, network: TimedNetwork, layers: Layers) -> dict[str, float]:
    runtime = graph.partition("/")[0]
    stages = {name: float(np.median(readings)) for (of, name), readings in times.stages.items() if of == runtime}
    base = float(np.median([sum(call) for call in times.calls[BASE]]))
    macs, rate = sum(conv_macs(network.graphs[INT8]).values()), gemm_rate(times.products[runtime])
    convolutions = sum(spent for (_, kind), spent in layers.items() if kind in CONVOLUTIONS)
    return {
        **{f"{name}_ms": _rounded(spent) for name, spent in stages.items()},
        "after_share": _rounded(sum(stages[name] for name in _AFTER) / base),
        "convolutions_ms": _rounded(convolutions),
        "macs": macs,
        "gemm_gmacs_per_second": _rounded(rate / 1e6),
        "gemm_ratio": _rounded(convolutions / (macs / rate)),
    }


def _targets(runtime: str) -> dict[str, float]:
    return {
        f"target_{name}": target[runtime] if isinstance(target, dict) else target for name, target in TARGETS.items()
    }


def _passes(row: Mapping[str, Any]) -> bool:
    at_most = all(row[name] <= row[f"target_{name}"] for name in TARGETS if name != "speedup_vs_float")
    return bool(at_most and row["speedup_vs_float"] >= row["target_speedup_vs_float"])


def _layer_rows(row: Mapping[str, Any], layers: Layers, network: TimedNetwork) -> list[dict[str, Any]]:
    """The layers that take longest beyond what the machine allows for their multiply-accumulates."""
    macs, rate = conv_macs(network.graphs[INT8]), 1e6 * row["gemm_gmacs_per_second"]
    rows: list[dict[str, Any]] = []
    for (name, kind), spent in layers.items():
        own = macs.get(_exported_name(name), 0) if kind in CONVOLUTIONS else 0
        columns: dict[str, Any] = {
            "milliseconds": _rounded(spent),
            "macs": own,
            "beyond_limit_ms": _rounded(spent - own / rate),
        }
        rows.append({"name": f"{row['name']}/layer/{kind}/{_exported_name(name)}", **columns})
    return sorted(rows, key=lambda layer: -layer["beyond_limit_ms"])[:_LAYERS]


def _exported_name(layer: str) -> str:
    """The node that a layer of a runtime was made of; both add to its name, ONNX Runtime drops `node_` in places."""
    match = re.search(r"(?:node_)?(conv2d(?:_\d+)?)", layer)
    return f"node_{match[1]}" if match else layer.partition("/")[0]


def _rounded(value: Any) -> float:
    return float(f"{float(value):.4g}")


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--image", type=Path, default=sorted(CALIBRATION.glob("*.jpg"))[0], help="to find instances in")
    parser.add_argument("--size", type=_size, help="HEIGHTxWIDTH of both networks, to try things out")
    parser.add_argument("--threads", type=int, default=THREADS, help="of the networks")
    parser.add_argument("--rounds", type=int, default=40)
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
