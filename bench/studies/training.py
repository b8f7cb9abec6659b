"""Measure the float accuracy of the shipped checkpoint by class and size on both held-out splits, and record its cost.

    python -m bench.studies.training --data HOMESCENES

HOMESCENES holds `val/`, `val.json`, `val_seen/` and `val_seen.json`. The checkpoint runs in torch, with the reference's
resizing, selection and suppression. `macs` are for a 4:3 image, with coefficients at selected locations only;
`parameters` are those of the shipped network. `training_images`, `training_augmented_images`, `iterations` and
`training_hours` are the sums over the runs recorded in the checkpoint (`training_images`: the largest). A checkpoint
without this record leaves them out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.lib.scenes import SPLITS, scenes_parser, split_images
from bench.lib.study import write_study
from blendmask_edge.evaluation.average_precision import evaluate
from blendmask_quantize import load_checkpoint
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.model.predictor import TorchPredictor


def main() -> None:
    """Measure and write bench/results/training.json."""
    options = scenes_parser(__doc__, "checkpoint", "limit").parse_args()
    checkpoint = load_checkpoint(options.checkpoint)
    predict, shared = TorchPredictor(checkpoint.model, checkpoint.labels), facts(checkpoint)
    rows = [measure(predict, options.data, split, options.limit) | shared for split in SPLITS]
    print(f"Written: {write_study('training', rows, options.output)}")


def facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Cost of running the network, and of training it."""
    model, runs = checkpoint.model, checkpoint.training
    columns: dict[str, Any] = {
        "macs": count_macs(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if runs:
        columns |= {
            "training_images": max(run.images for run in runs),
            "training_augmented_images": sum(run.augmented_images for run in runs),
            "iterations": sum(run.iterations for run in runs),
            "training_hours": round(sum(run.hours for run in runs), 2),
        }
    return columns


def measure(predict: TorchPredictor, data: Path, split: str, limit: int | None) -> dict[str, Any]:
    """The row of one split."""
    metrics = evaluate(predict, split_images(data, split, limit))
    return {"name": f"shipped/{split}", **{name: round(value, 4) for name, value in metrics.items()}}


if __name__ == "__main__":
    main()
