"""What each estimator and each step of refinement is worth, and what it costs.

    python -m bench.studies.refinements --data HOMESCENES --work FOLDER

HOMESCENES holds `val/` and `val.json`; calibration pictures are those beside the shipped model unless `--calibration`
names others. What was measured lies in FOLDER and is not measured again: after a cut the same command goes on.

| rows | what |
|---|---|
| `float/val` | the float graph |
| `ptq-max`, `ptq-percentile`, `ptq-entropy`, `ptq-mse`, `ptq-auto` | ranges by that estimator, without any step |
| `equalise`, `descent`, `adaround`, `bias` | ranges by `mse`, and that step alone |
| `ptq` | ranges by `mse`, and the steps of the recipe |
| `all` | ranges by `auto`, and every step but `adaround`, which does what `descent` does in much less time |

Each has `NAME/cpu/val` and `NAME/tensorrt/val`: accuracy in ONNX Runtime, and how far the graph is from the float one
on held-out calibration pictures (`mask_iou`, `box_iou`, `score_drift`, as `blendmask quantize` reports them). A step
that does not help there is left out, so that its rows repeat those of `ptq-mse`: `NAME/step/STEP` says whether it was
`kept`, the mask IoU with and without it, and its `seconds`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.progress import stage
from bench.scenes import CALIBRATION, CHECKPOINT, accuracy, scenes_parser
from bench.study import run_study, write_study
from blendmask_edge import MaskPredictor
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize.checkpoints.checkpoint import load_checkpoint
from blendmask_quantize.pipeline.calibration_set import CalibrationOptions
from blendmask_quantize.pipeline.job import QuantizeOptions
from blendmask_quantize.pipeline.recipes import get_recipe
from blendmask_quantize.pipeline.run import Report, quantize

SPLIT = "val"
FLAVOURS = ("cpu", "tensorrt")
_FIDELITY = ("mask_iou", "box_iou", "score_drift")

Row = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """One way to quantise: name of its rows, estimator, and names of the steps."""

    name: str
    estimator: str = "mse"
    steps: tuple[str, ...] = ()


STEPS = ("equalise", "descent", "adaround", "bias")
VARIANTS = (
    *(Variant(f"ptq-{name}", name) for name in ("max", "percentile", "entropy", "mse", "auto")),
    *(Variant(name, steps=(name,)) for name in STEPS),
    Variant("ptq", steps=get_recipe("ptq").steps),
    Variant("all", "auto", ("equalise", "descent", "bias")),
)


def main() -> None:
    """Measure what is missing and write bench/results/refinements.json."""
    options = _parse_arguments()
    if not (options.data / f"{SPLIT}.json").is_file():
        sys.exit(f"error: {options.data} lacks {SPLIT}.json: give the folder of homescenes")
    options.work.mkdir(parents=True, exist_ok=True)
    rows = [row for variant in VARIANTS for row in _rows(variant, options)]
    base = next(row["mask_ap"] for row in rows if row["name"] == f"float/{SPLIT}")
    for row in rows:
        if "mask_ap" in row:
            row["retention"] = round(row["mask_ap"] / max(base, 1e-9), 4)
        print(f"{row['name']:<28}" + "  ".join(f"{name} {row[name]:.4g}" for name in row if name != "name"))
    print(f"Written: {write_study('refinements', rows, options.output)}")


def _rows(variant: Variant, options: argparse.Namespace) -> list[Row]:
    """The rows of a variant; what was measured with the same checkpoint and pictures before lies in the work folder."""
    digest = hashlib.sha256(options.checkpoint.read_bytes() + str(options.calibration.resolve()).encode()).hexdigest()
    path: Path = options.work / f"{variant.name}-{digest[:12]}-{options.count}-{options.limit or 'all'}.json"
    if not path.is_file():
        write_bytes(path, json.dumps(_measured(variant, options)).encode())
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def _measured(variant: Variant, options: argparse.Namespace) -> list[Row]:
    bundle = options.work / f"{variant.name}.bmz"
    wanted = QuantizeOptions(
        CalibrationOptions(options.calibration, options.count, estimator=variant.estimator), steps=variant.steps,
        keep_float=variant is VARIANTS[0],
    )  # fmt: skip
    report = quantize(load_checkpoint(options.checkpoint), bundle, wanted, stage)
    graphs = {f"{variant.name}/{flavour}": flavour for flavour in FLAVOURS}
    if wanted.keep_float:
        graphs = {"float": "float", **graphs}
    rows = [
        {"name": f"{name}/{SPLIT}", **_accuracy(bundle, flavour, name, options), **_fidelity(report, flavour)}
        for name, flavour in graphs.items()
    ]
    return rows + _step_rows(variant, report)


def _accuracy(bundle: Path, flavour: str, name: str, options: argparse.Namespace) -> dict[str, float]:
    pictures = options.limit or len(list((options.data / SPLIT).glob("*.jpg")))
    with MaskPredictor(bundle, "onnxruntime", options.threads, flavour=flavour) as predictor:
        return accuracy(predictor, options.data, SPLIT, options.limit, stage(name, pictures))


def _fidelity(report: Report, flavour: str) -> dict[str, float]:
    found = report.flavours[flavour].fidelity
    measured = found.record() if found is not None else {}
    return {name: round(measured[name], 5) for name in _FIDELITY if name in measured}


def _step_rows(variant: Variant, report: Report) -> list[Row]:
    rows = []
    for outcome in report.refined:
        row: Row = {"name": f"{variant.name}/step/{outcome.name}", "kept": int(outcome.kept)}
        row["seconds"] = round(outcome.seconds, 1)
        if outcome.before is not None and outcome.after is not None:
            row["mask_iou_before"] = round(1 - outcome.before.masks, 5)
            row["mask_iou"] = round(1 - outcome.after.masks, 5)
        rows.append(row)
    return rows


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made, to go on from")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--calibration", type=Path, default=CALIBRATION, help="folder of calibration pictures")
    parser.add_argument("--count", type=int, default=128, help="most calibration pictures")
    parser.add_argument("--threads", type=int, default=2, help="of the network")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
