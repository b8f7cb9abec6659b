"""Cost and gain of shrinking: each recipe on a network, with accuracy, work, size and latency.

    python -m bench.studies.shrink --data HOMESCENES --work FOLDER [--name NETWORK --checkpoint C]

HOMESCENES holds `train/`, `val/` and `val_seen/` with their `.json` files. What is made lies in FOLDER, and what lies
there is not made again: after a cut the same command goes on.

| row | what |
|---|---|
| `float` | the shipped checkpoint |
| `ptq` | recipe `ptq`, calibrated on a sample of `train` |
| `qat/labels`, `qat/no-labels` | recipe `qat`, trained on `train` with its labels and without |
| `pruned-70` | pruned to 0.7 of the multiply-accumulates, fine-tuned on `train`, float |
| `pruned-70/ptq` | that, with recipe `ptq` |
| `pruned-50/ptq`, `pruned-50/qat`, `pruned-30/qat` | pruned to 0.5 and 0.3, with recipe `ptq`, or `qat` with labels |
| `latency-50/qat` | pruned to half of the latency in ONNX Runtime, with recipe `qat` and labels |
| `edge` | recipe `edge`: pruned to 0.7, fine-tuned, then trained with quantization, with labels |
| `edge-sparse` | the same with 2:4 sparse weights |

Names of rows begin with that of the network, `shipped` unless another one is given; rows of other networks stay in the
result. A network that cannot be pruned that far has a row with `error` in place of metrics.

Accuracy is that of each graph in ONNX Runtime: `ptq/cpu/val`, `ptq/tensorrt/val` ... Latency is of the `cpu` graph, of
`float` and `pruned-70` a float graph that makes masks for the same rows, in both runtimes: `ptq/onnxruntime`,
`ptq/openvino` ..., timed as `blendmask_edge.benchmark.side_by_side` says. `speedup_vs_float` is against the float graph
in ONNX Runtime; that has the coefficients at selected locations already, against dense coefficients it would be larger.
`size_bytes` is of the ONNX graph in the bundle, `size_ratio` over the checkpoint's weights in float32.
`training_images` were trained on while shrinking;
`training_kept` is 0 where training with quantization did not help and its start was kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.lib.command import blendmask
from bench.lib.float_baseline import with_comparable_float
from bench.lib.progress import stage
from bench.lib.quiet import time_quietly
from bench.lib.scenes import SPLITS, accuracy, frames, scenes_parser
from bench.lib.study import read_rows, run_study, write_study
from blendmask_edge import Bundle, MaskPredictor
from blendmask_edge.benchmark.side_by_side import latency_metrics
from blendmask_edge.evaluation.annotations import read_coco
from blendmask_edge.runtimes.registry import select
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize import load_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.macs import count_macs

RATIO = 0.7
PRUNED = "pruned-70"
TARGETS = {
    PRUNED: ("--macs", RATIO), "pruned-50": ("--macs", 0.5), "pruned-30": ("--macs", 0.3),
    "latency-50": ("--latency", 0.5),
}  # fmt: skip
"""Options of `blendmask prune`, by the name of the pruned checkpoint."""
RUNTIMES = ("onnxruntime", "openvino")
_TIMED_IMAGES = 40


@dataclass(frozen=True)
class Experiment:
    """One bundle of the study.

    Attributes:
        name: of its rows.
        recipe: of `quantize`.
        labels: whether it is trained with labels.
        pruned: name of the pruned checkpoint that it is made of; empty for the whole network.
        float_name: what the rows of its float graph are called; None leaves that graph out.
    """

    name: str
    recipe: str
    labels: bool = False
    pruned: str = ""
    float_name: str | None = None

    @property
    def graphs(self) -> dict[str, str]:
        """Variants by the name of their rows."""
        floats = {self.float_name: "float"} if self.float_name else {}
        return {**floats, f"{self.name}/cpu": "cpu", f"{self.name}/tensorrt": "tensorrt"}

    @property
    def timed(self) -> dict[str, str]:
        """Variants that are timed, by the name of their rows."""
        floats = {self.float_name: "float"} if self.float_name else {}
        return {**floats, self.name: "cpu"}


EXPERIMENTS = (
    Experiment("ptq", "ptq", float_name="float"),
    Experiment("qat/labels", "qat", labels=True),
    Experiment("qat/no-labels", "qat"),
    Experiment(f"{PRUNED}/ptq", "ptq", pruned=PRUNED, float_name=PRUNED),
    Experiment("pruned-50/ptq", "ptq", pruned="pruned-50"),
    Experiment("pruned-50/qat", "qat", labels=True, pruned="pruned-50"),
    Experiment("pruned-30/qat", "qat", labels=True, pruned="pruned-30"),
    Experiment("latency-50/qat", "qat", labels=True, pruned="latency-50"),
    Experiment("edge", "edge", labels=True),
    Experiment("edge-sparse", "edge-sparse", labels=True),
)


def main() -> None:
    """Make what is missing, measure it and write bench/results/shrink.json."""
    options = _parse_arguments()
    _check_setting(options)
    failed = _unreachable(options)
    bundles = {each: _made(each, options) for each in EXPERIMENTS if each.pruned not in failed}
    facts = {
        name: columns
        for experiment in bundles
        for name, columns in _facts(experiment, bundles[experiment], options).items()
    }
    measured = {
        name: columns for experiment in bundles for name, columns in _accuracy(experiment, bundles[experiment], options)
    }
    rows = _accuracy_rows(measured, facts) + _latency_rows(bundles, facts, options)
    rows += [{"name": each.name, "error": failed[each.pruned]} for each in EXPERIMENTS if each.pruned in failed]
    rows = [{**row, "name": f"{options.name}/{row['name']}"} for row in rows]
    for row in (row for row in rows if "error" not in row):
        print(f"{row['name']:<36}" + "  ".join(f"{name} {row[name]:.4g}" for name in row if name != "name"))
    others = [
        row for name, row in read_rows("shrink", options.output).items() if not name.startswith(f"{options.name}/")
    ]
    print(f"Written: {write_study('shrink', others + rows, options.output)}")


def _check_setting(options: argparse.Namespace) -> None:
    """See that data and runtimes are there, and that what lies in the work folder was made in the same way."""
    missing = [name for name in ("train.json", "val.json", "val_seen.json") if not (options.data / name).is_file()]
    if missing:
        sys.exit(f"error: {options.data} lacks {', '.join(missing)}: give the folder of homescenes")
    for runtime in RUNTIMES:
        select(runtime).load()
    setting = {
        "checkpoint": hashlib.sha256(options.checkpoint.read_bytes()).hexdigest(),
        "annotations": hashlib.sha256((options.data / "train.json").read_bytes()).hexdigest(),
        **{name: getattr(options, name) for name in ("prune_iterations", "qat_iterations", "limit")},
    }
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / "setting.json"
    former = json.loads(path.read_text(encoding="utf-8")) if path.exists() else setting
    moved = [f"{name} {former.get(name)}, not {value}" for name, value in setting.items() if former.get(name) != value]
    if moved:
        sys.exit(f"error: {options.work} was made with {'; '.join(moved)}: name another --work, or remove that folder")
    write_bytes(path, json.dumps(setting, indent=2).encode())


def _made(experiment: Experiment, options: argparse.Namespace) -> Path:
    """The bundle of a experiment, made if it is missing."""
    path: Path = options.work / f"{experiment.name.replace('/', '-')}.bmz"
    if not path.exists():
        checkpoint = _pruned(experiment.pruned, options) if experiment.pruned else options.checkpoint
        words = ["--calibration", options.data / "train", "--recipe", experiment.recipe, "--output", path]
        words += ["--annotations", options.data / "train.json"] if experiment.labels else []
        words += ["--keep-float"] if experiment.float_name else []
        words += ["--resume", "--iterations", options.qat_iterations] if experiment.recipe != "ptq" else []
        words += (
            ["--macs", RATIO, "--prune-iterations", options.prune_iterations]
            if experiment.recipe.startswith("edge")
            else []
        )
        blendmask("quantize", checkpoint, *words)
    return path


def _unreachable(options: argparse.Namespace) -> dict[str, str]:
    """Make the pruned checkpoints; returns why there is none, by name."""
    failed = {}
    for name in dict.fromkeys(each.pruned for each in EXPERIMENTS if each.pruned):
        try:
            _pruned(name, options)
        except SystemExit:
            failed[name] = f"`blendmask prune {' '.join(map(str, TARGETS[name]))}` failed"
    return failed


def _pruned(name: str, options: argparse.Namespace) -> Path:
    """A pruned checkpoint, made if it is missing."""
    path: Path = options.work / f"{name}.safetensors"
    if not path.exists():
        data, how = options.data, [*TARGETS[name], "--iterations", options.prune_iterations, "--resume"]
        images = ["--images", data / "train", "--annotations", data / "train.json"]
        blendmask("prune", options.checkpoint, *images, "--output", path, *how)
    return path


def _facts(experiment: Experiment, bundle: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Work, size and images of each graph, by the name of its rows."""
    manifest = Bundle.open(bundle).manifest
    model = BlendMask(msgspec.convert(manifest.config, ModelConfig))
    weights = sum(p.numel() for p in load_checkpoint(options.checkpoint).model.parameters())
    qat_options = manifest.recipe.options.get("qat", {})
    steps = [step for step in manifest.recipe.options.values() if isinstance(step, dict)]
    trained = [len(read_coco(options.data / "train.json").imgs)] if experiment.pruned else [0]
    shared = {
        "macs": count_macs(model, (manifest.input.height, manifest.input.width)),
        "training_images": max(trained + [step.get("trained_on", 0) for step in steps]),
        **({"training_kept": int(qat_options["kept"] == "qat")} if qat_options else {}),
    }
    sizes = {name: manifest.graphs[variant].size for name, variant in (experiment.graphs | experiment.timed).items()}
    return {
        name: {**shared, "size_bytes": size, "size_ratio": round(size / (4 * weights), 4)}
        for name, size in sizes.items()
    }


def _accuracy(
    experiment: Experiment, bundle: Path, options: argparse.Namespace
) -> Iterator[tuple[str, dict[str, float]]]:
    """Accuracy of each graph on each split; what was measured of the same graph before lies in the work folder."""
    manifest = Bundle.open(bundle).manifest
    for name, variant in experiment.graphs.items():
        for split in SPLITS:
            graph = manifest.graphs[variant].sha256
            path = options.work / "accuracy" / f"{name.replace('/', '-')}-{split}-{graph[:12]}.json"
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                metrics = _measured(bundle, variant, f"{name}/{split}", split, options)
                write_bytes(path, json.dumps(metrics).encode())
            yield f"{name}/{split}", json.loads(path.read_text(encoding="utf-8"))


def _measured(bundle: Path, variant: str, name: str, split: str, options: argparse.Namespace) -> dict[str, float]:
    images = len(read_coco(options.data / f"{split}.json").imgs)
    on_image = stage(name, min(options.limit or images, images))
    with MaskPredictor(bundle, "onnxruntime", options.threads, score_threshold=0, variant=variant) as predictor:
        return accuracy(predictor, options.data, split, options.limit, on_image)


def _accuracy_rows(
    measured: Mapping[str, Mapping[str, float]], facts: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    rows = []
    for name, metrics in measured.items():
        graph, _, split = name.rpartition("/")
        retention = round(metrics["mask_ap"] / max(measured[f"float/{split}"]["mask_ap"], 1e-9), 4)
        rows.append({"name": name, **metrics, "retention": retention, **facts[graph]})
    return rows


def _latency_rows(
    bundles: Mapping[Experiment, Path], facts: Mapping[str, Mapping[str, float]], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Every timed graph in every runtime, interleaved in one run on images of `val`."""
    graphs = {
        name: (_comparable(experiment, bundles[experiment], options), variant)
        for experiment in bundles
        for name, variant in experiment.timed.items()
    }
    images = frames(options.data, "val", min(options.limit or _TIMED_IMAGES, _TIMED_IMAGES))
    print(f"latency: {len(graphs)} graphs in {len(RUNTIMES)} runtimes, {len(images)} images", flush=True)
    with ExitStack() as stack:
        predictors = {
            f"{name}/{runtime}": stack.enter_context(
                MaskPredictor(path, runtime, options.threads, score_threshold=0, variant=variant)
            )
            for name, (path, variant) in graphs.items()
            for runtime in RUNTIMES
        }
        times = time_quietly(predictors, images)
    return [
        {"name": name, **latency_metrics(times, "float/onnxruntime", name), **facts[name.rpartition("/")[0]]}
        for name in predictors
    ]


def _comparable(experiment: Experiment, bundle: Path, options: argparse.Namespace) -> Path:
    """The bundle, with a float graph that makes masks for existing rows only where that is timed."""
    if experiment.float_name is None:
        return bundle
    path: Path = options.work / f"{experiment.name.replace('/', '-')}-timed.bmz"
    if not path.exists():
        checkpoint = _pruned(experiment.pruned, options) if experiment.pruned else options.checkpoint
        with_comparable_float(bundle, checkpoint, path)
    return path


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__, "work", "checkpoint", "threads", "limit")
    parser.add_argument("--name", default="shipped", help="of the network, with which names of rows begin")
    parser.add_argument("--prune-iterations", type=int, default=1000, help="of fine-tuning after pruning")
    parser.add_argument("--qat-iterations", type=int, default=400, help="of training with quantization")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
