"""Cost and gain of shrinking: each recipe on a network, with accuracy, work, size and latency.

    python -m bench.studies.shrink --data HOMESCENES --work FOLDER [--name NETWORK --checkpoint C]
    python -m bench.studies.shrink --data HOMESCENES --work FOLDER --part accuracy --only 'pruned-50/*'

HOMESCENES holds `train/`, `val/` and `val_seen/` with their `.json` files. What is made lies in FOLDER, and what lies
there is not made again: after an interruption the same command continues. Rows of parts and experiments that are not
asked for stay as they are in the result, and each row of accuracy is written as soon as it is measured.

| row | what |
|---|---|
| `float`, `dense` | the checkpoint; `dense` computes coefficients at all locations, as the reference does |
| `ptq` | recipe `ptq`, calibrated on a sample of `train` |
| `qat/labels`, `qat/no-labels` | recipe `qat`, trained on `train` with its labels and without |
| `pruned-70` | pruned to 0.7 of the multiply-accumulates, fine-tuned on `train`, float |
| `pruned-70/ptq`, `pruned-70/qat` | that, with recipe `ptq`, or `qat` with labels |
| `pruned-50`, `pruned-30` ... | the same for 0.5 and 0.3 |
| `latency-50` ... | the same for half of the latency in ONNX Runtime |
| `edge` | recipe `edge`: pruned to 0.7, fine-tuned, then trained with quantization, with labels |
| `edge-sparse` | the same with 2:4 sparse weights |
| `choice/NAME` | ways to choose channels at 0.5, compared on training images held out of a short fine-tuning |

Names of rows begin with that of the network, `shipped` unless another one is given; rows of other networks stay. A
network that cannot be pruned that far has a row with `error` in place of metrics.

Part `accuracy` is that of each graph in ONNX Runtime: `ptq/cpu/val`, `ptq/tensorrt/val` ...; `retention` is over the
float graph of the whole network, with an interval by a bootstrap over images, the same for both. Part `speed` times the
`cpu` graphs, and float graphs that make masks for the same rows, in both runtimes: `ptq/onnxruntime`, `ptq/openvino`
..., as `blendmask_edge.benchmark.side_by_side` says, with the bundles' own score thresholds. `speedup_vs_float` is over
`dense/onnxruntime`. `size_bytes` is of the ONNX graph in the bundle, `size_ratio` over the checkpoint's weights in
float32. `training_images` were trained on while shrinking; `training_kept` is 0 where training with quantization did
not help and its start was kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bench.lib.scenes import scenes_parser
from bench.lib.study import read_rows, run_study, write_study
from bench.shrink.accuracy import Accuracy
from bench.shrink.experiments import CHOICES, PRUNED, Experiment, selected
from bench.shrink.making import Workshop
from bench.shrink.speed import RUNTIMES, speed_rows
from blendmask_edge.runtimes.registry import select

Row = dict[str, Any]


def main() -> None:
    """Make what is missing, measure the parts that are asked for and write bench/results/shrink.json."""
    options = _parse_arguments()
    workshop = _workshop(options)
    workshop.check(options.limit)
    if "speed" in options.part:
        for runtime in RUNTIMES:
            select(runtime).load()
    for part in options.part:
        for row in PARTS[part](workshop, options):
            named = {**row, "name": f"{options.name}/{row['name']}"}
            print(f"{named['name']:<36}" + "  ".join(f"{key} {named[key]}" for key in named if key != "name"))
            rows = read_rows("shrink", options.output) | {named["name"]: named}
            written = write_study("shrink", list(rows.values()), options.output)
        print(f"Finished {part}", flush=True)
    print(f"Written: {written}")


def choice_rows(workshop: Workshop, options: argparse.Namespace) -> Iterator[Row]:
    """A row for each way to choose channels."""
    accuracy = _accuracy(workshop, options)
    return map(accuracy.choice_row, CHOICES)


def accuracy_rows(workshop: Workshop, options: argparse.Namespace) -> Iterator[Row]:
    """The accuracy of each graph on both splits, or why there is none."""
    accuracy = _accuracy(workshop, options)
    for experiment in selected(options.only):
        why = _failed(workshop, experiment)
        if why:
            yield {"name": experiment.name, "error": why}
        else:
            yield from accuracy.rows(experiment)


def timed_rows(workshop: Workshop, options: argparse.Namespace) -> list[Row]:
    """The latency of each graph in both runtimes."""
    reached = [each for each in selected(options.only) if not _failed(workshop, each)]
    return speed_rows(workshop, reached, options.threads, options.limit)


def _failed(workshop: Workshop, experiment: Experiment) -> str:
    """Why the checkpoint of an experiment cannot be pruned; empty where it can."""
    try:
        workshop.source(experiment)
    except SystemExit:
        return f"`blendmask prune {' '.join(map(str, PRUNED[experiment.pruned]))}` failed"
    return ""


def _accuracy(workshop: Workshop, options: argparse.Namespace) -> Accuracy:
    return Accuracy(workshop, options.limit, options.threads)


def _workshop(options: argparse.Namespace) -> Workshop:
    return Workshop(
        options.work, options.checkpoint, options.data, options.prune_iterations, options.qat_iterations,
        options.choice_iterations, options.held_out,
    )  # fmt: skip


PARTS: dict[str, Callable[[Workshop, argparse.Namespace], Iterable[Row]]] = {
    "choice": choice_rows,
    "accuracy": accuracy_rows,
    "speed": timed_rows,
}


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__, "work", "checkpoint", "threads", "limit")
    parser.add_argument("--name", default="shipped", help="of the network, with which names of rows begin")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--only", nargs="+", default=["*"], metavar="GLOB", help="experiments, e.g. 'pruned-50/*'")
    parser.add_argument("--prune-iterations", type=int, default=1000, help="of fine-tuning after pruning")
    parser.add_argument("--qat-iterations", type=int, default=400, help="of training with quantization")
    parser.add_argument("--choice-iterations", type=int, default=150, help="of fine-tuning to compare choices")
    parser.add_argument("--held-out", type=int, default=100, help="training images that choices are evaluated on")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
