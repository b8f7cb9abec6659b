"""Other quantizers, runtimes and networks beside this product, in the same run.

    make peers
    .venv-peers/bin/python -m bench.studies.peers --data HOMESCENES --work FOLDER --part settings accuracy prepare
    .venv-peers/bin/python -m bench.studies.peers --data HOMESCENES --work FOLDER --part speed    # on an idle machine

HOMESCENES holds `train/`, `val/` and `val_seen/` with their `.json` files. What is made lies in FOLDER, and rows of
parts that are not measured stay as they are in the result, so that an interrupted study goes on and accuracy and speed
may come from two machines. Each row of accuracy is written as soon as it is measured. Each row has the features of the
processor that it was measured on.

The float graph of the shipped network is quantized by ONNX Runtime, NNCF and modelopt from the same calibration
images, by default and by the best of the settings in `bench/peers/recipes.py`.

| part | row | what |
|---|---|---|
| `settings` | `TOOL-SETTING/train` | mask AP on the first `--train-images` training images, to choose `BEST` by |
| `accuracy` | `GRAPH/val`, `GRAPH/val_seen` | mask AP on the first `--images` of a split, with paired intervals |
| `prepare` | none | makes and opens everything that `speed` times |
| `speed` | `blendmask/RUNTIME/PRECISION`, `TOOL-SETTING/RUNTIME/int8` | image in, masks out, ten instances |
| `speed` | `yolo.../openvino/PRECISION` | the network alone, random weights |
| `speed` | `mask-rcnn/pytorch/float` | torchvision's R50-FPN, image in, masks out, ten instances, random weights |
| `speed` | `gemm/RUNTIME/int8` | the machine's limit: multiply-accumulates of matrix products |

Accuracy is that of exact arithmetic: ONNX Runtime without optimization of graphs, in which Q/DQ round and all else is
float. `mask_ap_onnxruntime` and `mask_ap_openvino` are those of this processor's integer kernels, which may saturate
where it lacks VNNI. A row that failed has `error`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bench.lib.machine import machine_record
from bench.lib.scenes import SPLITS, scenes_parser
from bench.lib.sessions import EXACT
from bench.lib.study import read_rows, run_study, write_study
from bench.peers.accuracy import Accuracy
from bench.peers.graphs import Graphs, compared
from bench.peers.recipes import SETTINGS
from bench.peers.speed import Speed
from bench.studies.speed import IMAGE_SIZE
from blendmask_edge import read_image
from blendmask_edge.evaluation.bootstrap import RESAMPLES
from blendmask_edge.imaging import resize

Row = dict[str, Any]
_RANGES_FROM = 8


def main() -> None:
    """Measure the parts that are asked for and write bench/results/peers.json."""
    options = _parse_arguments()
    rows = read_rows("peers", options.output)
    for part in options.part:
        for row in PARTS[part](options):
            print(f"{row['name']:<40}" + "  ".join(f"{key} {value}" for key, value in row.items() if key != "name"))
            rows[row["name"]] = row | {"processor": _processor()}
            write_study("peers", list(rows.values()), options.output)
        print(f"Finished {part}", flush=True)


def settings_rows(options: argparse.Namespace) -> Iterator[Row]:
    """The accuracy of each setting of each tool on training images."""
    names = [f"{tool}-{setting}" for tool, settings in SETTINGS.items() for setting in settings]
    return _accuracy(options, options.train_images).rows(names, "train", (EXACT,))


def accuracy_rows(options: argparse.Namespace) -> Iterator[Row]:
    """The accuracy of each graph on both splits."""
    for split in SPLITS:
        yield from _accuracy(options, options.images).rows(compared(), split)


def speed_rows(options: argparse.Namespace) -> list[Row]:
    """Latency of everything, in turn."""
    return _speed(options).rows()


def prepare(options: argparse.Namespace) -> list[Row]:
    """Make and open everything once, so that `speed` only measures."""
    return _speed(options).prepare()


def _speed(options: argparse.Namespace) -> Speed:
    paths = sorted(options.calibration.glob("*.jpg"))[:_RANGES_FROM]
    images = [resize(read_image(path), IMAGE_SIZE) for path in paths]
    return Speed(Graphs(options.work, options.checkpoint, options.calibration), images, options.threads, options.rounds)


def _accuracy(options: argparse.Namespace, images: int) -> Accuracy:
    graphs = Graphs(options.work, options.checkpoint, options.calibration)
    return Accuracy(graphs, options.data, images, options.threads, options.resamples)


def _processor() -> str:
    """Name and INT8 features of the processor."""
    record = machine_record()
    return " ".join([record["cpu"], *record["flags"]])


PARTS: dict[str, Callable[[argparse.Namespace], Iterable[Row]]] = {
    "settings": settings_rows,
    "accuracy": accuracy_rows,
    "prepare": prepare,
    "speed": speed_rows,
}


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__, "checkpoint", "calibration", "threads", "work")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--images", type=int, default=100, help="of each split, to measure accuracy on")
    parser.add_argument("--train-images", type=int, default=30, help="to choose settings by")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="draws of the bootstrap")
    parser.add_argument("--rounds", type=int, default=100, help="frames of each that are timed")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
