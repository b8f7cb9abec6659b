"""What the shipped checkpoint reaches in float: box and mask AP by class and size on both held-out splits.

    python -m bench.studies.training --data HOMESCENES

HOMESCENES holds `val/`, `val.json`, `val_seen/` and `val_seen.json`. The checkpoint runs in torch, with the reference's
resizing, selection and suppression.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.scenes import CHECKPOINT, SPLITS
from bench.study import write_study
from blendmask_quantize.evaluate import evaluate
from blendmask_quantize.model.checkpoint import load_checkpoint
from blendmask_quantize.model.predictor import TorchPredictor


def main() -> None:
    """Measure and write bench/results/training.json."""
    options = _parse_arguments()
    predict = TorchPredictor(load_checkpoint(options.checkpoint))
    rows = [measure(predict, options.data, split, options.limit) for split in SPLITS]
    print(f"Written: {write_study('training', rows, options.output)}")


def measure(predict: TorchPredictor, data: Path, split: str, limit: int | None) -> dict[str, Any]:
    """The row of one split."""
    metrics = evaluate(predict, data / split, data / f"{split}.json", limit)
    return {"name": f"shipped/{split}", **{name: round(value, 4) for name, value in metrics.items()}}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of homescenes")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--limit", type=int, help="only the first pictures of each split, to try things out")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
