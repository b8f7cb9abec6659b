"""First light: what INT8 costs in accuracy and gains in speed, for the shipped model on both held-out splits.

    python -m bench.studies.first_light --data HOMESCENES

HOMESCENES holds `val/`, `val.json`, `val_seen/` and `val_seen.json`. The bundle is made from the shipped checkpoint and
calibration images by `blendmask quantize --keep-float`; both of its graphs run in ONNX Runtime through
`MaskPredictor`, and their frames are timed in turn, in one process. `speedup_vs_float` is against this float graph,
which has the coefficients at kept locations already: against dense coefficients it would be larger.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from bench.command import quantize_with_float
from bench.scenes import CALIBRATION, CHECKPOINT, SPLITS, accuracy, frames, scenes_parser
from bench.study import write_study
from bench.timing import latency_metrics
from blendmask_edge import MaskPredictor
from blendmask_quantize.validation.latency import interleaved_latency

VARIANTS = {"float": "float", "int8": "cpu"}
_TIMED_IMAGES = 40


def main() -> None:
    """Measure and write bench/results/first_light.json."""
    options = _parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        bundle = quantize_with_float(options.checkpoint, options.calibration, Path(folder) / "first_light.bmz")
        rows = [row for split in SPLITS for row in measure(bundle, options.data, split, options.limit)]
    for row in rows:
        print(f"{row['name']:<16}" + "  ".join(f"{name} {row[name]:.4g}" for name in row if name != "name"))
    print(f"Written: {write_study('first_light', rows, options.output)}")


def measure(bundle: Path, data: Path, split: str, limit: int | None) -> list[dict[str, Any]]:
    """One row for each graph of the bundle on one split: accuracy, and latency image in, masks out."""
    predictors = {name: MaskPredictor(bundle, "onnxruntime", variant=variant) for name, variant in VARIANTS.items()}
    images = frames(data, split, min(limit or _TIMED_IMAGES, _TIMED_IMAGES))
    found = {name: accuracy(predictor, data, split, limit) for name, predictor in predictors.items()}
    times = interleaved_latency(predictors, images)
    for predictor in predictors.values():
        predictor.close()
    return [{"name": f"{name}/{split}", **found[name], **latency_metrics(times, "float", name)} for name in predictors]


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--calibration", type=Path, default=CALIBRATION)
    return parser.parse_args()


if __name__ == "__main__":
    main()
