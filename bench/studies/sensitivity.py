"""Plant outlier channels in the shipped network, and see what plain PTQ loses and `--max-drop 1%` brings back.

    python -m bench.studies.sensitivity --data HOMESCENES --work FOLDER [--size 192x256]

What is made lies in FOLDER, and what lies there is not made again: after an interruption the same command continues.
HOMESCENES holds `val_seen/` and `val_seen.json`, whose first images calibrate and are held out for the search. Mask AP
is measured on the demo's evaluation images, which show other instances. The planted network computes what the shipped
one does: two channels of two residual sums of the backbone are 50 times larger, and what reads them has 50 times
smaller weights. No step of the recipe undoes that; `cross_layer_equalization`, which is off by default, does not reach
across sums.

Rows: `planted/ptq`, `planted/max-drop` and `shipped/ptq`, each with the variant; `planted/layer/NAME`, one per layer,
for the `cpu` graph with this layer alone quantized, on held-out images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.lib.outliers import Outliers, plant_outliers
from bench.lib.progress import stage
from bench.lib.scenes import EVALUATION, scenes_parser
from bench.lib.study import run_study, write_study
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize import load_checkpoint, quantize, sensitivity
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.pipeline.report import Report

SPLIT = "val_seen"
COUNT, HELD_OUT, COMPARED = 32, 16, 2
"""Images that calibrate, and on which INT8 and layers are compared with float; the search holds out 20 of all 48."""
_IMAGES = "images"
BOUND = 0.01
FACTOR = 50
_BLOCKS = "backbone.bottom_up.blocks"
OUTLIERS = (
    Outliers(
        (f"{_BLOCKS}.1.0.project", f"{_BLOCKS}.1.1.project"),
        (f"{_BLOCKS}.1.1.expand", f"{_BLOCKS}.2.0.expand", "basis_module.fine"),
    ),
    Outliers(
        (f"{_BLOCKS}.2.0.project", f"{_BLOCKS}.2.1.project"),
        (f"{_BLOCKS}.2.1.expand", f"{_BLOCKS}.3.0.expand", "backbone.fpn_lateral3"),
    ),
)
_LOSSES = ("missed-instances", "spurious-instances", "broken-masks", "shifted-scores", "max-drop")


Rows = list[dict[str, Any]]


def main() -> None:
    """Measure what is missing and write bench/results/sensitivity.json."""
    parser = scenes_parser(__doc__, "checkpoint", "work")
    parser.add_argument("--size", help="network input HxW, smaller to be quick; default: the configuration's")
    options = parser.parse_args()
    study = _Study.of(options)
    rows: Rows = []
    for name, measure in study.stages().items():
        rows += study.stage(name, measure)
        print(f"Written: {write_study('sensitivity', rows, options.output)}", flush=True)


@dataclass(frozen=True)
class _Study:
    """The networks and images of the study.

    Attributes:
        shipped, planted: the checkpoint, and the same with outlier channels.
        labels: annotations of the calibration images.
        work: folder of what is made.
        size: of the network input; None takes the configuration's.
    """

    shipped: Checkpoint
    planted: Checkpoint
    labels: Path
    work: Path
    size: tuple[int, int] | None

    @classmethod
    def of(cls, options: argparse.Namespace) -> _Study:
        """Load the network, plant the outliers and link the first images of the split."""
        size = tuple(map(int, options.size.split("x"))) if options.size else None
        shipped = load_checkpoint(options.checkpoint)
        planted = replace(shipped, model=plant_outliers(shipped.model, OUTLIERS, FACTOR))
        work = options.work / (options.size or "full")
        (work / _IMAGES).mkdir(parents=True, exist_ok=True)
        for path in sorted((options.data / SPLIT).iterdir())[: COUNT + HELD_OUT]:
            link = work / _IMAGES / path.name
            link.unlink(missing_ok=True)
            link.symlink_to(path.resolve())
        return cls(shipped, planted, options.data / f"{SPLIT}.json", work, size)  # type: ignore[arg-type]

    def stages(self) -> dict[str, Callable[[], Rows]]:
        """The functions that measure the rows of each stage, by its name."""
        bound = {"max_drop": BOUND, "annotations": self.labels}
        return {
            "planted/ptq": lambda: _rows("planted/ptq", self._quantize("planted-ptq", self.planted)),
            "planted/max-drop": lambda: _rows("planted/max-drop", self._quantize("max-drop", self.planted, **bound)),
            "shipped/ptq": lambda: _rows("shipped/ptq", self._quantize("shipped-ptq", self.shipped)),
            "planted/layer": self._layer_rows,
        }

    def stage(self, name: str, measure: Callable[[], Rows]) -> Rows:
        """The rows of a stage, measured unless they lie in the folder."""
        path = self.work / f"{name.replace('/', '-')}.json"
        if not path.is_file():
            write_bytes(path, json.dumps(measure()).encode())
        rows: Rows = json.loads(path.read_bytes())
        return rows

    def _quantize(self, name: str, checkpoint: Checkpoint, **changes: Any) -> Report:
        return quantize(
            checkpoint, self.work / _IMAGES, self.work / f"{name}.bmz", size=self.size, count=COUNT, allow=_LOSSES,
            progress=stage, evaluation=(EVALUATION, EVALUATION.with_suffix(".json")), **changes,
        )  # fmt: skip

    def _layer_rows(self) -> Rows:
        """A row for each layer, most sensitive first, where all others stay float."""
        report = sensitivity(
            self.planted, self.work / _IMAGES, annotations=self.labels, images=COMPARED, count=COUNT, variants=("cpu",),
            size=self.size, progress=stage,
        )  # fmt: skip
        return [
            {
                "name": f"planted/layer/{layer.name}", "float_macs_share": round(1 - layer.macs_share, 4),
                "retention": round(layer.change.retention or 0.0, 4), "mask_iou": round(1 - layer.change.masks, 4),
                "score_difference": round(layer.change.scores, 4),
            }
            for layer in report.layers
        ]  # fmt: skip


def _rows(name: str, report: Report) -> Rows:
    """A row for each INT8 graph."""
    float_ap = report.variants["float"].metrics["mask_ap"]
    drop = report.training["max_drop"].record() if "max_drop" in report.training else {}
    rows = []
    for variant in ("cpu", "tensorrt"):
        mask_ap = report.variants[variant].metrics["mask_ap"]
        row = {"name": f"{name}/{variant}", "mask_ap": round(mask_ap, 4), "retention": round(mask_ap / float_ap, 4)}
        if drop:
            held_out = {"held_out_retention": round(1 - drop["after"][variant], 4), "held_out_images": drop["images"]}
            row |= {"float_macs_share": round(drop["float_macs_share"], 4), "reverted": drop["reverted"], **held_out}
        rows.append(row)
    return rows


if __name__ == "__main__":
    run_study(main)
