"""Measure what each range estimator and each refinement step gains and costs.

    python -m bench.studies.refinements --data HOMESCENES --work FOLDER

HOMESCENES holds `val/` and `val.json`. Calibration images are the shipped ones unless `--calibration` names others.
Results are kept in FOLDER; after an interruption the same command continues.

| rows | configuration |
|---|---|
| `float/val` | the float graph |
| `ptq-max`, `ptq-percentile`, `ptq-entropy`, `ptq-mse`, `ptq-auto` | ranges by that estimator, no refinement |
| name of a step | ranges by `mse`, and that step alone |
| `ptq` | ranges by `mse`, and the steps of the recipe |
| `all` | ranges by `auto`, and all steps but `adaround`, since `coordinate_descent` does the same in much less time |

Each has rows `NAME/cpu/val` and `NAME/tensorrt/val`: accuracy in ONNX Runtime, and the distance to the float graph on
held-out calibration images (`mask_iou`, `box_iou`, `score_drift`, as `blendmask quantize` reports them). A step that
does not help there is dropped, so its rows repeat those of `ptq-mse`. `NAME/step/STEP` says whether it was `kept`, the
mask IoU with and without it, and its `seconds`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.lib.progress import stage
from bench.lib.scenes import accuracy, scenes_parser
from bench.lib.study import run_study, write_study
from blendmask_edge import MaskPredictor
from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize import QuantizeOptions, quantize
from blendmask_quantize.pipeline.recipe_names import get_recipe
from blendmask_quantize.pipeline.report import Report

SPLIT = "val"
VARIANTS = ("cpu", "tensorrt")
_FIDELITY = ("mask_iou", "box_iou", "score_drift")

Row = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """One way to quantize: name of its rows, estimator, and names of the steps."""

    name: str
    estimator: str = "mse"
    steps: tuple[str, ...] = ()


STEPS = ("cross_layer_equalization", "coordinate_descent", "adaround", "bias_correction")
EXPERIMENTS = (
    *(Experiment(f"ptq-{name}", name) for name in ("max", "percentile", "entropy", "mse", "auto")),
    *(Experiment(name, steps=(name,)) for name in STEPS),
    Experiment("ptq", steps=get_recipe("ptq").steps),
    Experiment("all", "auto", ("cross_layer_equalization", "coordinate_descent", "bias_correction")),
)


def main() -> None:
    """Measure what is missing and write bench/results/refinements.json."""
    options = _parse_arguments()
    if not (options.data / f"{SPLIT}.json").is_file():
        sys.exit(f"error: {options.data} lacks {SPLIT}.json: give the folder of homescenes")
    options.work.mkdir(parents=True, exist_ok=True)
    rows = [row for experiment in EXPERIMENTS for row in _rows(experiment, options)]
    base = next(row["mask_ap"] for row in rows if row["name"] == f"float/{SPLIT}")
    for row in rows:
        if "mask_ap" in row:
            row["retention"] = round(row["mask_ap"] / max(base, 1e-9), 4)
        print(f"{row['name']:<28}" + "  ".join(f"{name} {row[name]:.4g}" for name in row if name != "name"))
    print(f"Written: {write_study('refinements', rows, options.output)}")


def _rows(experiment: Experiment, options: argparse.Namespace) -> list[Row]:
    """The rows of an experiment; earlier measurements of the same checkpoint and images lie in the work folder."""
    digest = hashlib.sha256(options.checkpoint.read_bytes() + str(options.calibration.resolve()).encode()).hexdigest()
    path: Path = options.work / f"{experiment.name}-{digest[:12]}-{options.count}-{options.limit or 'all'}.json"
    if not path.is_file():
        write_bytes(path, json.dumps(_measured(experiment, options)).encode())
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def _measured(experiment: Experiment, options: argparse.Namespace) -> list[Row]:
    bundle = options.work / f"{experiment.name}.bmz"
    wanted = QuantizeOptions(
        count=options.count, estimator=experiment.estimator, steps=experiment.steps,
        keep_float=experiment is EXPERIMENTS[0],
    )  # fmt: skip
    report = quantize(options.checkpoint, options.calibration, bundle, options=wanted, progress=stage)
    graphs = {f"{experiment.name}/{variant}": variant for variant in VARIANTS}
    if wanted.keep_float:
        graphs = {"float": "float", **graphs}
    rows = [
        {"name": f"{name}/{SPLIT}", **_accuracy(bundle, variant, name, options), **_fidelity(report, variant)}
        for name, variant in graphs.items()
    ]
    return rows + _step_rows(experiment, report)


def _accuracy(bundle: Path, variant: str, name: str, options: argparse.Namespace) -> dict[str, float]:
    images = options.limit or len(list((options.data / SPLIT).glob("*.jpg")))
    with MaskPredictor(bundle, "onnxruntime", options.threads, score_threshold=0, variant=variant) as predictor:
        return accuracy(predictor, options.data, SPLIT, options.limit, stage(name, images))


def _fidelity(report: Report, variant: str) -> dict[str, float]:
    fidelity = report.variants[variant].fidelity
    measured = fidelity.record() if fidelity is not None else {}
    return {name: round(measured[name], 5) for name in _FIDELITY if name in measured}


def _step_rows(experiment: Experiment, report: Report) -> list[Row]:
    rows = []
    for outcome in report.refined:
        row: Row = {"name": f"{experiment.name}/step/{outcome.name}", "kept": int(outcome.kept)}
        row["seconds"] = round(outcome.seconds, 1)
        if outcome.before is not None and outcome.after is not None:
            row["mask_iou_before"] = round(1 - outcome.before.masks, 5)
            row["mask_iou"] = round(1 - outcome.after.masks, 5)
        rows.append(row)
    return rows


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__, "work", "checkpoint", "calibration", "threads", "limit")
    parser.add_argument("--count", type=int, default=128, help="most calibration images")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
