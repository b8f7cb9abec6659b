"""Plant outlier channels in the shipped network, and see what plain PTQ loses and `--max-drop 1%` brings back.

    python -m bench.studies.sensitivity --data HOMESCENES

HOMESCENES holds `val_seen/` and `val_seen.json`, whose first images calibrate and are held out for the search. Mask AP
is measured on the demo's evaluation images, which show other instances. The planted network computes what the shipped
one does: two channels of two residual sums of the backbone are 50 times larger, and what reads them has 50 times
smaller weights. No step of the recipe undoes that; `cross_layer_equalization`, which is off by default, does not reach
across sums.

Rows: `planted/ptq`, `planted/max-drop` and `shipped/ptq`, each with the variant; `planted/layer/NAME`, one per layer,
for the `cpu` graph with this layer alone quantized, on held-out images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.lib.outliers import Outliers, plant_outliers
from bench.lib.progress import stage
from bench.lib.scenes import EVALUATION, scenes_parser
from bench.lib.study import run_study, write_study
from blendmask_quantize import load_checkpoint, quantize, sensitivity
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.pipeline.report import Report

SPLIT = "val_seen"
COUNT, HELD_OUT, COMPARED = 32, 16, 2
"""Images that calibrate, that are held out for the search, and that layers are compared on."""
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


def main() -> None:
    """Measure and write bench/results/sensitivity.json."""
    parser = scenes_parser(__doc__, "checkpoint")
    parser.add_argument("--size", help="network input HxW, smaller to be quick; default: the configuration's")
    options = parser.parse_args()
    size = tuple(map(int, options.size.split("x"))) if options.size else None
    shipped = load_checkpoint(options.checkpoint)
    planted = replace(shipped, model=plant_outliers(shipped.model, OUTLIERS, FACTOR))
    rows: list[dict[str, Any]] = []
    with _calibration_folder(options.data) as folder:
        for made in _stages(shipped, planted, folder, options.data / f"{SPLIT}.json", size):
            rows += made
            print(f"Written: {write_study('sensitivity', rows, options.output)}", flush=True)


def _stages(
    shipped: Checkpoint, planted: Checkpoint, folder: Path, labels: Path, size: Any
) -> Iterator[list[dict[str, Any]]]:
    """The rows of one stage after the other."""
    yield _rows("planted/ptq", _quantize(planted, folder, size=size))
    yield _rows("planted/max-drop", _quantize(planted, folder, size=size, max_drop=BOUND, annotations=labels))
    yield _layer_rows(planted, folder, labels, size)
    yield _rows("shipped/ptq", _quantize(shipped, folder, size=size))


@contextmanager
def _calibration_folder(data: Path) -> Iterator[Path]:
    """A folder of links to the first images of the split."""
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted((data / SPLIT).iterdir())[: COUNT + HELD_OUT]:
            (Path(scratch) / path.name).symlink_to(path.resolve())
        yield Path(scratch)


def _quantize(checkpoint: Checkpoint, folder: Path, **changes: Any) -> Report:
    with tempfile.TemporaryDirectory() as scratch:
        return quantize(
            checkpoint, folder, Path(scratch) / "model.bmz", count=COUNT, allow=_LOSSES, progress=stage,
            evaluation=(EVALUATION, EVALUATION.with_suffix(".json")), **changes,
        )  # fmt: skip


def _rows(name: str, report: Report) -> list[dict[str, Any]]:
    """A row for each INT8 graph."""
    float_ap = report.variants["float"].metrics["mask_ap"]
    found = report.training["max_drop"].record() if "max_drop" in report.training else {}
    rows = []
    for variant in ("cpu", "tensorrt"):
        mask_ap = report.variants[variant].metrics["mask_ap"]
        row = {"name": f"{name}/{variant}", "mask_ap": round(mask_ap, 4), "retention": round(mask_ap / float_ap, 4)}
        if found:
            held_out = {"held_out_retention": round(1 - found["after"][variant], 4), "held_out_images": found["images"]}
            row |= {"float_macs_share": round(found["float_macs_share"], 4), "reverted": found["reverted"], **held_out}
        rows.append(row)
    return rows


def _layer_rows(checkpoint: Checkpoint, folder: Path, labels: Path, size: Any) -> list[dict[str, Any]]:
    """A row for each layer, most sensitive first, where all others stay float."""
    report = sensitivity(
        checkpoint,
        folder,
        annotations=labels,
        images=COMPARED,
        count=COUNT,
        variants=("cpu",),
        size=size,
        progress=stage,
    )
    return [
        {
            "name": f"planted/layer/{layer.name}", "float_macs_share": round(1 - layer.macs_share, 4),
            "retention": round(layer.change.retention or 0.0, 4), "mask_iou": round(1 - layer.change.masks, 4),
            "score_difference": round(layer.change.scores, 4),
        }
        for layer in report.layers
    ]  # fmt: skip


if __name__ == "__main__":
    run_study(main)
