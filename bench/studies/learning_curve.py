"""Measure AP of a training run's averaged weights at several steps.

    python -m bench.studies.learning_curve --points FOLDER --images DIR --annotations J.json

FOLDER holds copies of the run's `last.pt`, made during the run, under any names. The images are the run's validation
images, not those of the reported results. `--checkpoint` is the final checkpoint, which has the configuration. Rows are
`step/STEPS`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from bench.lib.progress import stage
from bench.lib.scenes import CHECKPOINT, METRICS
from bench.lib.study import run_study, study_parser, write_study
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import evaluate
from blendmask_quantize import load_checkpoint
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.predictor import TorchPredictor

_AVERAGE = "module."


def main() -> None:
    """Measure and write bench/results/learning_curve.json."""
    options = _parse_arguments()
    files = sorted(options.points.glob("*.pt"))
    if not files:
        sys.exit(f"error: {options.points} holds no .pt file: give a folder of copies of a run's last.pt")
    checkpoint = load_checkpoint(options.checkpoint)
    rows = sorted((measure(file, checkpoint, options) for file in files), key=lambda row: int(row["iterations"]))
    for row in rows:
        print(f"{row['name']:<12}" + "  ".join(f"{name} {row[name]:.4g}" for name in METRICS if name in row))
    print(f"Written: {write_study('learning_curve', rows, options.output)}")


def measure(file: Path, checkpoint: Checkpoint, options: argparse.Namespace) -> dict[str, Any]:
    """The row of one copy; the network of `checkpoint` takes its weights."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    average = {name.removeprefix(_AVERAGE): value for name, value in state["average"].items() if _AVERAGE in name}
    known = checkpoint.model.state_dict()
    checkpoint.model.load_state_dict({name: average[name] for name in known})
    steps = int(state["iteration"])
    images = AnnotatedImages.open(options.images, options.annotations, limit=options.limit)
    on_image = stage(f"step {steps}", len(images.ids))
    measured = evaluate(TorchPredictor(checkpoint.model, checkpoint.labels), images, on_image)
    metrics = {name: round(value, 4) for name, value in measured.items() if name in METRICS or "mask_ap/" in name}
    return {"name": f"step/{steps}", "iterations": steps, **metrics}


def _parse_arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--points", type=Path, required=True, help="folder of copies of last.pt")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--limit", type=int, help="only the first images, to try things out")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
