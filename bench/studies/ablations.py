"""Ablate the parts of BlendMask in the shipped network, as in tables 1 to 5 of the paper.

    python -m bench.studies.ablations --data HOMESCENES --work FOLDER

HOMESCENES holds `train/`, `val/` and `val_seen/` with their `.json` files. Each variant is `LITE0_RT` at an input of
384 x 512 with one part changed. All variants train from the same ImageNet backbone and seed, on the same augmented
images, for the same number of steps: 15 to 20 minutes on one core. Runs are kept in FOLDER/VARIANT; after an
interruption the same command continues and does not repeat finished runs. `--only` selects variants and `--train` skips
the measurement, so that one process per core can train its share first:

    OMP_NUM_THREADS=1 python -m bench.studies.ablations --data HOMESCENES --work FOLDER --train --only base k1 k2 k8

| variant | change |
|---|---|
| `base` | K = 4 bases, M = 7, attention, semantic loss, batched NMS |
| `k1`, `k2`, `k8` | number of bases |
| `m14` | finer attention |
| `weighted-sum` | one weight per basis: the blender of YOLACT |
| `assembler` | 3 x 3 position-sensitive bases without attention: FCIS |
| `no-semantic` | without the auxiliary semantic loss |
| `fast-nms` | the weights of `base` with the suppression of YOLACT |

Rows are `VARIANT/val` and `VARIANT/val_seen`. Each variant has one seed, so differences below 1 AP are not significant.
Latency is that of the float network in torch, from image to masks; each image is shown to the variants in turn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.lib.progress import stage
from bench.lib.scenes import SPLITS, accuracy, frames, scenes_parser
from bench.lib.study import write_study
from blendmask_edge.benchmark.side_by_side import time_side_by_side
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize import load_checkpoint
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.config import ModelConfig, get_config
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.model.predictor import TorchPredictor
from blendmask_quantize.runs.run_folder import MODEL_FILE
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.loop import train
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.start import new_network
from blendmask_quantize.training.stream import AugmentedStream

_SHIPPED = get_config("LITE0_RT")
BASE = replace(_SHIPPED, input=replace(_SHIPPED.input, test_short=384, test_long=512))
_TIMED_IMAGES = 30


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        config: the network.
        weights: the variant whose training it shares; its own if None.
    """

    config: ModelConfig
    weights: str | None = None


def _bases(count: int) -> Variant:
    return Variant(replace(BASE, bases=replace(BASE.bases, count=count)))


VARIANTS: dict[str, Variant] = {
    "base": Variant(BASE),
    "k1": _bases(1),
    "k2": _bases(2),
    "k8": _bases(8),
    "m14": Variant(replace(BASE, attention_size=14)),
    "weighted-sum": Variant(replace(BASE, blender="weighted_sum", attention_size=1)),
    "assembler": Variant(
        replace(BASE, blender="assembler", attention_size=3, bases=replace(BASE.bases, count=9))
    ),
    "no-semantic": Variant(replace(BASE, bases=replace(BASE.bases, semantic=False))),
    "fast-nms": Variant(replace(BASE, inference=replace(BASE.inference, nms="fast")), weights="base"),
}  # fmt: skip


def main() -> None:
    """Train what is missing; unless told to stop there, measure everything and write bench/results/ablations.json."""
    options = _parse_arguments()
    _check_setting(options)
    for name in dict.fromkeys(VARIANTS[chosen].weights or chosen for chosen in options.only):
        _train(name, options)
    if not options.train:
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    networks = {name: _load(name, options) for name in options.only}
    times = time_side_by_side(
        {name: TorchPredictor(network.model, network.labels) for name, network in networks.items()},
        frames(options.data, "val", options.timed), rounds=options.rounds,
    )  # fmt: skip
    rows = []
    for name, network in networks.items():
        shared = {**_facts(network, options), "latency_p50_ms": round(statistics.median(times[name]), 2)}
        rows += [{"name": f"{name}/{split}", **_accuracy(name, network, split, options), **shared} for split in SPLITS]
    for row in rows:
        print(f"{row['name']:<24}" + "  ".join(f"{key} {row[key]:.4g}" for key in ("mask_ap", "latency_p50_ms")))
    print(f"Written: {write_study('ablations', rows, options.output)}")


def _check_setting(options: argparse.Namespace) -> None:
    """See that the data are there, and that what lies in the work folder was trained in the same way."""
    missing = [f"{split}.json" for split in ("train", *SPLITS) if not (options.data / f"{split}.json").is_file()]
    if missing:
        sys.exit(f"error: {options.data} lacks {', '.join(missing)}: give the folder of homescenes")
    annotations = hashlib.sha256((options.data / "train.json").read_bytes()).hexdigest()
    setting = {"annotations": annotations, "iterations": options.iterations, "batch": options.batch}
    path = options.work / "setting.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != setting:
        sys.exit(f"error: {options.work} holds runs on other data or of another length: give an empty --work")
    options.work.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps(setting).encode())


def _train(name: str, options: argparse.Namespace) -> None:
    output = options.work / name
    if (output / MODEL_FILE).is_file():
        return
    schedule = TrainOptions(iterations=options.iterations, batch=options.batch, workers=options.workers)
    config = VARIANTS[name].config
    source = CocoImages.open(options.data / "train", options.data / "train.json", config, schedule.augmentation)
    model = new_network(config, schedule.seed)
    step = stage(f"training {name}", schedule.iterations)
    stream = AugmentedStream([source], schedule.augmented_images, schedule.seed)
    train(model, stream, output, schedule, resume=True, on_step=lambda *_: step())


def _load(name: str, options: argparse.Namespace) -> Checkpoint:
    variant = VARIANTS[name]
    network = load_checkpoint(options.work / (variant.weights or name) / MODEL_FILE)
    network.model.config = variant.config
    return network


def _facts(network: Checkpoint, options: argparse.Namespace) -> dict[str, Any]:
    (run,) = network.training
    return {
        "macs": count_macs(network.model),
        "parameters": sum(parameter.numel() for parameter in network.model.parameters()),
        "training_images": run.images,
        "iterations": options.iterations,
        "training_hours": run.hours,
    }


def _accuracy(name: str, network: Checkpoint, split: str, options: argparse.Namespace) -> Mapping[str, float]:
    """AP on a split, measured once and kept beside the run."""
    path = options.work / f"{name}-{split}-{options.limit or 'all'}.json"
    if not path.is_file():
        count = options.limit or len(list((options.data / split).glob("*.jpg")))
        step = stage(f"measuring {name} on {split}", count)
        metrics = accuracy(TorchPredictor(network.model, network.labels), options.data, split, options.limit, step)
        write_bytes(path, json.dumps(metrics).encode())
    result: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return result


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__, "limit")
    parser.add_argument("--work", type=Path, required=True, help="where runs lie; go on by naming it again")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--train", action="store_true", help="train only")
    parser.add_argument("--iterations", type=int, default=1400, help="of each variant")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1, help="processes that load images")
    parser.add_argument("--timed", type=int, default=_TIMED_IMAGES, help="images that latency is measured on")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is shown")
    return parser.parse_args()


if __name__ == "__main__":
    main()
