"""Time of a frame of the shipped network, part by part, beside the network of YOLO26n-seg, in one run, two threads.

    python -m bench.studies.frame

| row | what |
|---|---|
| `shipped/RUNTIME/int8` | the `cpu` variant, image in, masks out, with its parts |
| `yolo26n-seg/openvino/PRECISION` | the network of YOLO26n-seg at the same input size: f32, bf16, INT8 by NNCF |

The image is 640x480, and ten instances pass, as in `speed`. All are timed in turn; `preprocess_ms`, `run_ms`,
`postprocess_ms` and `paste_ms` are parts of the frame. The parts of `run_ms` are from the runtime's own times of its
layers, in a session of its own, so they are somewhat more together. `peer_ratio` is the frame over the quickest
precision of the peer, whose own postprocessing is not counted.

The peer is optional: `make peers` installs it (ultralytics is AGPL-3.0), and `.venv-peers/bin/python` runs the study
with it. Without it, its rows say so.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.frame_parts import part_times, parts_of
from bench.lib.progress import stage
from bench.lib.scenes import CALIBRATION, CHECKPOINT
from bench.lib.sessions import RUNTIMES, layer_times
from bench.lib.study import run_study, study_parser, write_study
from bench.lib.timed_networks import INT8, TimedNetwork, timed_network, trained_network
from bench.peers.packages import MissingPeerError
from bench.peers.yolo import PRECISIONS, open_peer
from bench.studies.speed import IMAGE_SIZE, announced, frame_milliseconds, graph_inputs
from blendmask_edge import MaskPredictor, read_image
from blendmask_edge.benchmark.side_by_side import THREADS
from blendmask_edge.hardware.timing import WARM_UP, read_in_turn
from blendmask_edge.imaging import resize
from blendmask_quantize.model.macs import padded_test_size

PEER = "yolo26n-seg"
_CALLS = ("preprocess", "run", "postprocess", "paste")
_RANGES_FROM = 8
Run = Callable[[int], tuple[float, ...]]


def main() -> None:
    """Measure and write bench/results/frame.json."""
    options = _parse_arguments()
    images = [resize(read_image(path), IMAGE_SIZE) for path in sorted(CALIBRATION.glob("*.jpg"))[:_RANGES_FROM]]
    model = trained_network(options.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        size = padded_test_size(model.config.input)
        network = timed_network(model, size, images[0], Path(folder) / "shipped.bmz")
        rows = frame_rows(network, images, options)
    for row in rows:
        print(f"{row['name']:<32}" + "  ".join(f"{key} {value}" for key, value in row.items() if key != "name"))
    print(f"Written: {write_study('frame', rows, options.output)}")


def frame_rows(
    network: TimedNetwork, images: list[NDArray[np.uint8]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The rows of the network in each runtime, and of the peer."""
    peers, errors = _peers(network.size, images, options.threads)
    with ExitStack() as stack:
        runs: dict[str, Run] = {}
        for runtime in RUNTIMES:
            predictor = MaskPredictor(network.bundle, runtime, options.threads, score_threshold=0, variant=INT8)
            runs[f"shipped/{runtime}/{INT8}"] = partial(
                frame_milliseconds, stack.enter_context(predictor), images[0], {}, runtime
            )
        runs |= peers
        turns = announced(range(WARM_UP, options.rounds), stage("frames", options.rounds + 1))
        readings = read_in_turn(runs, turns)
    quickest = min((_median(readings[name]) for name in peers), default=None)
    rows = [_frame_row(name, readings[name], quickest) for name in runs]
    for row, runtime in zip(rows, RUNTIMES, strict=False):
        row |= _parts(runtime, network, images[0], options)
    return [*rows, *errors]


def _peers(
    size: tuple[int, int], images: list[NDArray[np.uint8]], threads: int
) -> tuple[dict[str, Run], list[dict[str, Any]]]:
    """The peer in each precision, and rows of those that cannot be made."""
    peers: dict[str, Run] = {}
    errors: list[dict[str, Any]] = []
    for precision in PRECISIONS:
        name = f"{PEER}/openvino/{precision}"
        try:
            peers[name] = partial(_peer_milliseconds, open_peer(precision, PEER, size, images, threads))
        except MissingPeerError as error:
            errors.append({"name": name, "error": str(error)})
    return peers, errors


def _peer_milliseconds(run: Callable[[], float], _: int) -> tuple[float, ...]:
    return (run(),)


def _frame_row(name: str, readings: list[tuple[float, ...]], quickest: float | None) -> dict[str, Any]:
    row = {"name": name, "latency_p50_ms": _rounded(_median(readings)), "latency_p90_ms": _rounded(_p90(readings))}
    if name.startswith(PEER):
        return row
    row |= {f"{call}_ms": _rounded(part) for call, part in zip(_CALLS, np.median(readings, axis=0), strict=True)}
    return row if quickest is None else {**row, "peer_ratio": _rounded(_median(readings) / quickest)}


def _parts(
    runtime: str, network: TimedNetwork, image: NDArray[np.uint8], options: argparse.Namespace
) -> Mapping[str, float]:
    graph = network.graphs[INT8]
    layers = layer_times(
        runtime, graph.SerializeToString(), graph_inputs(network, image), options.threads, options.rounds
    )
    return {f"{part}_ms": _rounded(spent) for part, spent in part_times(layers, parts_of(graph)).items()}


def _median(readings: list[tuple[float, ...]]) -> float:
    return float(np.median([sum(reading) for reading in readings]))


def _p90(readings: list[tuple[float, ...]]) -> float:
    return float(np.percentile([sum(reading) for reading in readings], 90))


def _rounded(value: Any) -> float:
    return float(f"{float(value):.4g}")


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--threads", type=int, default=THREADS, help="of the networks")
    parser.add_argument("--rounds", type=int, default=60)
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
