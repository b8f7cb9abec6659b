"""Test the gate without a clock: planted losses of accuracy and memory, and a sound bundle that is rounded differently.

    python -m bench.studies.gate_accuracy M.bmz --images DIR --annotations J.json

Each image is predicted once by ONNX Runtime and once by OpenVINO, which rounds differently, as another processor does.
A run draws as many of the images with replacement; its baseline is what ONNX Runtime reached on the same draw. Faults
change the recorded results:

| row | fault |
|---|---|
| `planted/loss-0.5`, `planted/loss-1` | random instances are lost: about 0.5 or 1 points of mask AP on all images |
| `planted/masks-shifted` | each mask is moved by one of the 56 cells of its box |
| `planted/class-lost/NAME` | no instance of a class is left |
| `planted/memory` | the peak of memory grows by 20 % |
| `sound/openvino`, `sound/memory` | no fault: what the gate reports is a false alarm |

Columns: `runs`; `reported`, those in which a limit was left; their share `caught` (`false_alarm_rate` where nothing was
planted) with the ends `_low` and `_high` of its 95 % interval (Wilson); `change` of the metric, a share, mean and ends.
`reported/LIMIT` counts with another limit of `mask_ap`. Memory is that of separate processes, `--memory-runs` of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.rates import rate_of, spread_of
from bench.lib.study import read_rows, run_study, study_parser, write_study
from blendmask_edge import Instances, Labels, MaskPredictor
from blendmask_edge.benchmark.baseline import DEFAULT_LIMITS
from blendmask_edge.benchmark.measure import measure
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.bootstrap import Matches

Results = list[dict[str, Any]]
_LIMITS = (0.002, 0.003, 0.005, 0.01)
_SEEDS, _CORRECTIONS = 10, 3
_MEMORY, _GROWTH = "memory_mb", 0.2


def main() -> None:
    """Measure and write bench/results/gate_accuracy.json."""
    options = _parse_arguments()
    if options.memory_run:
        print(json.dumps(peak_memory(options)))
        return
    rows = read_rows("gate_accuracy", options.output)
    for part in options.part:
        rows |= {row["name"]: row for row in PARTS[part](options)}
        print(f"Written: {write_study('gate_accuracy', list(rows.values()), options.output)}")


def accuracy_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of planted losses, and of the other runtime."""
    images = _annotated(options)
    sound, shifted = _predicted(options, "onnxruntime", images, shift_masks)
    (other,) = _predicted(options, "openvino", images)
    study = Study(images, sound, options.runs)
    yield study.row("sound/openvino", [other])
    yield study.row("planted/masks-shifted", [shifted])
    for points in (0.5, 1.0):
        yield study.row(f"planted/loss-{points:g}", [study.lose_points(points / 100, seed) for seed in range(_SEEDS)])
    shown = {label["category_id"] for image_id in images.ids for label in images.coco.imgToAnns[image_id]}
    for category in sorted(shown):
        others = [result for result in sound if result["category_id"] != category]
        yield study.row(f"planted/class-lost/{images.coco.cats[category]['name']}", [others])


@dataclass
class Study:
    """Draws of the images, and what the sound bundle reached on each.

    images: annotated.
    sound: results of the sound bundle.
    runs: number of draws.
    """

    images: AnnotatedImages
    sound: Results
    runs: int

    def __post_init__(self) -> None:
        """Draw, and measure the baselines."""
        count = len(self.images.ids)
        picked = np.random.default_rng(0).integers(0, count, (self.runs, count))
        self.draws = np.stack([np.bincount(row, minlength=count) for row in picked])
        matches = self._matches(self.sound)
        self.baselines = [matches.metrics(draw) for draw in self.draws]
        self.mask_ap = matches.metrics(np.ones(count, np.int64))["mask_ap"]

    def row(self, name: str, faulty: Sequence[Results]) -> dict[str, Any]:
        """One row: each draw is held against its baseline.

        Args:
            name: of the row.
            faulty: results with the fault, which the draws take in turn.
        """
        matches = [self._matches(results) for results in faulty]
        metrics = [matches[run % len(matches)].metrics(draw) for run, draw in enumerate(self.draws)]
        changes = [
            {metric: now.get(metric, 0.0) / before[metric] - 1 for metric in ("mask_ap", "mask_ap75") if before[metric]}
            for now, before in zip(metrics, self.baselines, strict=True)
        ]
        moved = [any(_is_outside(metric, change) for metric, change in run.items()) for run in changes]
        of_ap = [run["mask_ap"] for run in changes]
        tried = {f"reported/{limit:g}": sum(change < -limit for change in of_ap) for limit in _LIMITS}
        return _printed({"name": name, **_counted(name, moved), **spread_of("change", of_ap), **tried})

    def lose_points(self, points: float, seed: int) -> Results:
        """The sound results without random ones, so that all images together lose about as much mask AP."""
        share = points / self.mask_ap
        for _ in range(_CORRECTIONS):
            remaining = lose(self.sound, share, seed)
            drop = self.mask_ap - self._matches(remaining).metrics(np.ones(len(self.images.ids), np.int64))["mask_ap"]
            share *= float(np.clip(points / max(drop, 1e-4), 0.5, 2))
        return lose(self.sound, share, seed)

    def _matches(self, results: Results) -> Matches:
        return Matches.of(self.images.coco, results, self.images.ids)


def shift_masks(instances: Instances) -> Instances:
    """Move each mask to the right within its box by one cell; boxes stay."""
    return replace(instances, mask_logits=np.roll(instances.mask_logits, 1, axis=2))


def lose(results: Results, share: float, seed: int) -> Results:
    """Leave out a share of the results, whatever their score."""
    remains = np.random.default_rng(seed).random(len(results)) >= share
    return [result for result, is_left in zip(results, remains, strict=True) if is_left]


def memory_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of memory, each run in a process of its own."""
    peaks = [_run_memory(options, 0.0) for _ in range(options.memory_runs + 1)]
    grown = [_run_memory(options, _GROWTH * peaks[0]) for _ in range(options.memory_runs)]
    rows = []
    for name, measured in (("sound/memory", peaks[1:]), ("planted/memory", grown)):
        changes = [peak / peaks[0] - 1 for peak in measured]
        moved = [_is_outside(_MEMORY, change) for change in changes]
        rows.append(_printed({"name": name, **_counted(name, moved), **spread_of("change", changes)}))
    return rows


def peak_memory(options: argparse.Namespace) -> float:
    """The metric of a short run, with memory added in the middle of it."""
    images = _annotated(options)
    images = replace(images, ids=images.ids[:10])
    ballast: list[NDArray[np.uint8]] = []
    with MaskPredictor(options.bundle, "onnxruntime", 1, 0.0) as predictor:

        def hold() -> None:
            ballast.append(np.ones(int(options.added * 1e6) if not ballast else 0, np.uint8))

        return measure(predictor, images, hold, 10, resamples=0).metrics[_MEMORY]


def _run_memory(options: argparse.Namespace, added: float) -> float:
    command = [
        sys.executable, "-m", "bench.studies.gate_accuracy", str(options.bundle), "--images", str(options.images),
        "--annotations", str(options.annotations), "--count", "10", "--memory-run", "--added", str(added),
    ]  # fmt: skip
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(printed.strip().splitlines()[-1])


def _annotated(options: argparse.Namespace) -> AnnotatedImages:
    images = AnnotatedImages.open(options.images, options.annotations)
    return replace(images, ids=images.ids[: options.count])


def _predicted(
    options: argparse.Namespace, runtime: str, images: AnnotatedImages, *changes: Callable[[Instances], Instances]
) -> list[Results]:
    """Results as they are, and after each change."""
    results: list[Results] = [[] for _ in range(1 + len(changes))]
    with MaskPredictor(options.bundle, runtime, 1, 0.0) as predictor:
        images.check_labels(Labels(predictor.manifest.classes, predictor.manifest.category_ids))
        for image_id in images.ids:
            instances = predictor(images.read(image_id))
            for place, changed in enumerate([instances, *(change(instances) for change in changes)]):
                results[place] += changed.to_coco(image_id)
    return results


def _is_outside(metric: str, change: float) -> bool:
    """Whether a change leaves the default limit of a metric."""
    limit = DEFAULT_LIMITS[metric]
    down, up = (limit.better, limit.worse) if metric == _MEMORY else (limit.worse, limit.better)
    return not -down <= change <= up


def _counted(name: str, moved: Sequence[bool]) -> dict[str, Any]:
    return {"runs": len(moved), "reported": sum(moved), **rate_of(moved, name.startswith("planted/"))}


def _printed(row: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps(row), flush=True)
    return row


PARTS: dict[str, Callable[[argparse.Namespace], Iterable[dict[str, Any]]]] = {
    "accuracy": accuracy_rows,
    "memory": memory_rows,
}


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS), help="rows of others stay")
    parser.add_argument("bundle", type=Path, metavar="M.bmz")
    parser.add_argument("--images", type=Path, required=True, help="folder of annotated images")
    parser.add_argument("--annotations", type=Path, required=True, help="their COCO JSON")
    parser.add_argument("--count", type=int, default=200, help="annotated images that are used")
    parser.add_argument("--runs", type=int, default=50, help="draws of each row")
    parser.add_argument("--memory-runs", type=int, default=50, help="processes of each row of memory")
    parser.add_argument("--memory-run", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--added", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
