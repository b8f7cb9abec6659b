"""Measure what INT8 costs in accuracy and gains in speed, for the shipped model on both held-out splits.

    python -m bench.studies.first_light --data HOMESCENES

HOMESCENES holds `val/`, `val.json`, `val_seen/` and `val_seen.json`. `blendmask quantize` makes the bundle from the
shipped checkpoint and calibration images. Its `cpu` graph, and a float graph that computes masks for the same rows, run
in ONNX Runtime through `MaskPredictor`, timed by `blendmask_edge.benchmark.side_by_side`. `speedup_vs_float` is the
ratio of the two medians. The float graph computes coefficients at selected locations only; against dense coefficients
the ratio would be larger.

Takes about 25 minutes for both splits of 500 images; `--limit 20` is a trial of two minutes. Nothing else may run at
the same time: a disturbed timing is repeated twice and then refused. Accuracy is measured after the timing.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.lib.command import blendmask
from bench.lib.float_baseline import with_comparable_float
from bench.lib.quiet import time_quietly
from bench.lib.scenes import SPLITS, accuracy, frames, scenes_parser
from bench.lib.study import run_study, write_study
from blendmask_edge import MaskPredictor
from blendmask_edge.benchmark.side_by_side import THREADS, latency_metrics

VARIANTS = {"float": "float", "int8": "cpu"}
_TIMED_IMAGES = 40


def main() -> None:
    """Measure and write bench/results/first_light.json."""
    options = _parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        made, bundle = Path(folder) / "made.bmz", Path(folder) / "first_light.bmz"
        blendmask("quantize", options.checkpoint, "--calibration", options.calibration, "--output", made)
        with_comparable_float(made, options.checkpoint, bundle)
        rows = [row for split in SPLITS for row in measure(bundle, options.data, split, options.limit)]
    for row in rows:
        print(f"{row['name']:<16}" + "  ".join(f"{name} {row[name]:.4g}" for name in row if name != "name"))
    print(f"Written: {write_study('first_light', rows, options.output)}")


def measure(bundle: Path, data: Path, split: str, limit: int | None) -> list[dict[str, Any]]:
    """One row for each graph of the bundle on one split: accuracy, and latency image in, masks out."""
    images = frames(data, split, min(limit or _TIMED_IMAGES, _TIMED_IMAGES))
    with ExitStack() as stack:
        predictors = {
            name: stack.enter_context(MaskPredictor(bundle, "onnxruntime", THREADS, score_threshold=0, variant=variant))
            for name, variant in VARIANTS.items()
        }
        times = time_quietly(predictors, images)
        scores = {name: accuracy(predictor, data, split, limit) for name, predictor in predictors.items()}
    return [{"name": f"{name}/{split}", **scores[name], **latency_metrics(times, "float", name)} for name in VARIANTS]


def _parse_arguments() -> argparse.Namespace:
    return scenes_parser(__doc__, "checkpoint", "calibration", "limit").parse_args()


if __name__ == "__main__":
    run_study(main)
