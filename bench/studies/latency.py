"""How well is the latency of a pruned network predicted from the times of its layers?

    python -m bench.studies.latency [--network NAME=CHECKPOINT ...]

Each network is pruned without training, by magnitude, to shares of its predicted latency and of its
multiply-accumulates, for each runtime. Then the INT8 graphs of all of them are timed in turn, on a frame without
instances, with two threads. What was measured of layers lies in the cache folder, so that a second run only times the
networks.

| row | what |
|---|---|
| `NETWORK/whole/RUNTIME` | the network as it is; `multiple` is the number of channels to remove at a time |
| `NETWORK/latency-50/RUNTIME` | pruned to 0.5 of the predicted latency |
| `NETWORK/pruned-50/RUNTIME` | pruned to 0.5 of the multiply-accumulates |

`predicted_ms` is the prediction, scaled to the time of the whole network in the same run; `predicted_ratio` is that
over `latency_p50_ms`, and `latency_share` the measured time over that of the whole network.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.lib.progress import stage
from bench.lib.quiet import Times, quietly
from bench.lib.scenes import CHECKPOINT
from bench.lib.study import run_study, study_parser, write_study
from blendmask_edge import ConfigError
from blendmask_edge.hardware.timing import WARM_UP, read_in_turn
from blendmask_edge.runtimes.registry import select
from blendmask_quantize import PruneOptions, load_checkpoint
from blendmask_quantize.latency.network import LatencyModel, int8_graph, latency_model
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.input_size import padded_test_size
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.pruning.channel_pruning import prune_network, total_cost

RUNTIMES = ("onnxruntime", "openvino")
SHARES = (0.8, 0.65, 0.5)
WHOLE = "whole"
_TURNS = 40


@dataclass(frozen=True)
class Candidate:
    """A network to time.

    Attributes:
        name: of its row.
        model: the network.
        predicted_ms: its predicted latency.
        facts: further metrics.
    """

    name: str
    model: BlendMask
    predicted_ms: float
    facts: Mapping[str, float]


def main() -> None:
    """Prune, time and write bench/results/latency.json."""
    options = _parse_arguments()
    for runtime in RUNTIMES:
        select(runtime).load()
    rows = []
    for name, checkpoint in options.network:
        model = load_checkpoint(checkpoint).model
        for runtime in RUNTIMES:
            candidates = list(_candidates(name, model, runtime))
            rows += _rows(candidates, _timed(candidates, runtime))
    for row in rows:
        print(f"{row['name']:<36}" + "  ".join(f"{key} {row[key]:.4g}" for key in row if key != "name"))
    print(f"Written: {write_study('latency', rows, options.output)}")


def _candidates(name: str, model: BlendMask, runtime: str) -> Iterator[Candidate]:
    size = padded_test_size(model.config.input)
    latency = latency_model(model, size, runtime, stage)
    multiple = {"multiple": latency.table.multiple(stage), "macs": count_macs(model, size)}
    yield Candidate(f"{name}/{WHOLE}/{runtime}", model, latency.network_ms, multiple)
    for share in SHARES:
        for target, what in (("latency", "latency"), ("macs", "pruned")):
            label = f"{name}/{what}-{round(100 * share)}/{runtime}"
            options = PruneOptions(share, target=target, runtime=runtime, importance="magnitude")
            try:
                pruned = _pruned(model, options, latency)
            except ConfigError as error:
                print(f"{label}: {error}", flush=True)
                continue
            predicted = total_cost(pruned, options, latency.cost)
            yield Candidate(label, pruned, predicted, {"macs": count_macs(pruned, size)})


def _pruned(model: BlendMask, options: PruneOptions, latency: LatencyModel) -> BlendMask:
    cost_of = latency.cost if options.target == "latency" else None
    return prune_network(model, options.ratio, (), options=options, cost_of=cost_of)


def _timed(candidates: list[Candidate], runtime: str) -> Times:
    """Milliseconds of the networks, in turn."""
    with ExitStack() as stack:
        on_step = stage(f"exporting for {runtime}", len(candidates))
        timers = {}
        for candidate in candidates:
            size = padded_test_size(candidate.model.config.input)
            timers[candidate.name] = _timer(stack.enter_context(int8_graph(candidate.model, size, runtime)))
            on_step()
        return quietly(lambda: read_in_turn(timers, range(WARM_UP, _TURNS)))


def _timer(run: Callable[[], object]) -> Callable[[int], float]:
    def milliseconds(_position: int) -> float:
        start = time.perf_counter()
        run()
        return 1000 * (time.perf_counter() - start)

    return milliseconds


def _rows(candidates: list[Candidate], times: Times) -> list[dict[str, Any]]:
    whole = candidates[0]
    base = statistics.median(times[whole.name])
    rows = []
    for candidate in candidates:
        measured = statistics.median(times[candidate.name])
        predicted = candidate.predicted_ms * base / whole.predicted_ms
        rows.append(
            {
                "name": candidate.name,
                "latency_p50_ms": round(measured, 3),
                "predicted_ms": round(predicted, 3),
                "predicted_ratio": round(predicted / measured, 4),
                "latency_share": round(measured / base, 4),
                **candidate.facts,
            }
        )
    return rows


def _network(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not Path(path).is_file():
        sys.exit(f"error: --network {text}: give NAME=CHECKPOINT, e.g. rt_r50=out/rt_r50.safetensors")
    return name, Path(path)


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument(
        "--network",
        type=_network,
        action="append",
        metavar="NAME=CHECKPOINT",
        help="default: shipped=the shipped model",
    )
    options = parser.parse_args()
    options.network = options.network or [("shipped", CHECKPOINT)]
    return options


if __name__ == "__main__":
    run_study(main)
