"""Measure what INT8 kernels that saturate cost, and that the SDK's do not saturate.

    python -m bench.studies.saturation --data HOMESCENES

Without VNNI, x86 processors add pairs of products of uint8 and int8 in 16 bits, which saturate. Each INT8 graph of a
bundle is evaluated on the first `--limit` images of each split in five ways:

| arithmetic | what computes |
|---|---|
| `reference` | ONNX Runtime without optimizations: quantized values in float32 |
| `onnxruntime`, `openvino` | the runtime as the SDK loads it |
| `onnxruntime-default`, `openvino-default` | the runtime with its own defaults |

Rows are `GRAPH/ARITHMETIC/SPLIT`, with mask AP and `mask_ap_change`, the difference to `reference`. On a processor with
VNNI all five agree. `saturates` is 1 on a processor without it. Rows of the `cpu` graph on the first split have
`speedup_vs_float`, too, all shown the same images in turn; `other_work` is 1 where other processes ran meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.command import quantize_with_float
from bench.lib.progress import stage
from bench.lib.scenes import SPLITS, accuracy, frames, scenes_parser
from bench.lib.sessions import RUNTIMES, open_default
from bench.lib.study import run_study, write_study
from blendmask_edge import Bundle, MaskPredictor
from blendmask_edge.benchmark.disturbance import other_work, read_cpu_times
from blendmask_edge.benchmark.side_by_side import speedup, time_side_by_side
from blendmask_edge.evaluation.predictions import Predictor
from blendmask_edge.hardware.cpu import saturates_int8
from blendmask_quantize.validation.as_written import AsWritten

VARIANTS = ("cpu", "tensorrt")
REFERENCE, FLOAT = "reference", "float"
_TIMED_IMAGES, _ROUNDS = 20, 3


def main() -> None:
    """Measure and write bench/results/saturation.json."""
    options = _parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "saturation.bmz"
        bundle = options.bundle or quantize_with_float(options.checkpoint, options.calibration, made)
        rows = [row for variant in VARIANTS for row in variant_rows(bundle, variant, options)]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    print(f"Written: {write_study('saturation', rows, options.output)}")


def variant_rows(bundle: Path, variant: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The rows of one graph."""
    with ExitStack() as stack:
        predictors = _predictors(bundle, variant, options.threads, stack)
        speedups = _speedups(bundle, predictors, options, stack) if variant == VARIANTS[0] else {}
        for split in SPLITS:
            metrics = {}
            for name, predict in predictors.items():
                on_image = stage(f"{variant}, {name}, {split}", options.limit)
                metrics[name] = accuracy(predict, options.data, split, options.limit, on_image)
            for name, of_graph in metrics.items():
                change = of_graph["mask_ap"] - metrics[REFERENCE]["mask_ap"]
                row = {"name": f"{variant}/{name}/{split}", **of_graph, "mask_ap_change": round(change, 4)}
                row |= {"images": options.limit, "saturates": int(saturates_int8())}
                yield row | (speedups.get(name, {}) if split == SPLITS[0] else {})


def _predictors(bundle: Path, variant: str, threads: int, stack: ExitStack) -> dict[str, Predictor]:
    opened = Bundle.open(bundle)
    graph = opened.graph(variant)
    predictors: dict[str, Predictor] = {REFERENCE: AsWritten(opened.manifest, graph)}
    for runtime in RUNTIMES:
        predictor = MaskPredictor(bundle, runtime, threads, score_threshold=0, variant=variant)
        predictors[runtime] = stack.enter_context(predictor)
        predictors[f"{runtime}-default"] = AsWritten(opened.manifest, graph, open_default(runtime, graph, threads))
    return predictors


def _speedups(
    bundle: Path, predictors: Mapping[str, Predictor], options: argparse.Namespace, stack: ExitStack
) -> dict[str, dict[str, Any]]:
    """How many times as fast as the float graph in ONNX Runtime, by name of the predictor."""
    images: list[NDArray[np.uint8]] = frames(options.data, SPLITS[0], _TIMED_IMAGES)
    timed = {name: predict for name, predict in predictors.items() if name != REFERENCE}
    base = MaskPredictor(bundle, RUNTIMES[0], options.threads, score_threshold=0, variant=FLOAT)
    before = read_cpu_times()
    times = time_side_by_side({**timed, FLOAT: stack.enter_context(base)}, images, _ROUNDS)
    disturbed = int(bool(other_work(before, read_cpu_times())))
    return {
        name: {"speedup_vs_float": round(speedup(times, FLOAT, name), 3), "other_work": disturbed} for name in timed
    }


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__, "checkpoint", "calibration", "threads", "limit")
    parser.add_argument("--bundle", type=Path, help="measure this one, with its float graph")
    parser.set_defaults(limit=100)
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
