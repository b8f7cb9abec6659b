"""Measure how much of the float graph's accuracy INT8 keeps, with confidence intervals.

    python -m bench.studies.accuracy --data HOMESCENES --photographs PHOTOGRAPHS

HOMESCENES holds `val/`, `val.json`, `val_seen/` and `val_seen.json`; PHOTOGRAPHS is a folder of JPEG files.
The bundle is made from `--checkpoint` by `blendmask quantize --keep-float`, or given by `--bundle` with its float
graph. The float, `cpu` and `tensorrt` graphs see each image in ONNX Runtime.

Rows `float/val`, `ptq/cpu/val`, `ptq/tensorrt/val` and those of `val_seen` have mask AP overall, by size and by class.
`retention` is INT8 over float. `_low` and `_high` are the ends of 95 % intervals by a bootstrap over images, with the
same samples for float and INT8 (`blendmask_edge.evaluation.bootstrap`, `resamples` of them from `seed`).

Rows `ptq/cpu/photographs` and `ptq/tensorrt/photographs` compare INT8 with float on photographs, which differ from
all training images. The ground truth there is the detections of the float graph with a score of at least 0.3.

Targets are recorded beside the results; `passed` is 1 if the values (not the low ends) reach all of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from bench.lib.command import quantize_with_float
from bench.lib.progress import stage
from bench.lib.scenes import SPLITS, scenes_parser, split_images
from bench.lib.study import run_study, write_study
from blendmask_edge import Bundle, Labels, MaskPredictor, read_image
from blendmask_edge.bundle import Manifest
from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.evaluation.bootstrap import RESAMPLES, Matches, draw_images, interval, ratio
from blendmask_edge.evaluation.predictions import Results, coco_results, predict_images
from blendmask_edge.evaluation.pseudo_labels import pseudo_labels

FLOAT = "float"
VARIANTS = (FLOAT, "cpu", "tensorrt")
SIZES = ("_small", "_medium", "_large")
TARGETS = {"retention": 0.99, "retention_class_worst": 0.97, "retention_size_worst": 0.98}
"""The least of each on the scenes."""
PHOTOGRAPHS_AP50 = 0.90
PHOTOGRAPHS_THRESHOLD = 0.3

Row = dict[str, Any]


def main() -> None:
    """Measure and write bench/results/accuracy.json."""
    options = _parse_arguments()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        made = Path(folder) / "accuracy.bmz"
        bundle = options.bundle or quantize_with_float(options.checkpoint, options.calibration, made)
        manifest = _checked(bundle)
        predictors = {
            variant: stack.enter_context(
                MaskPredictor(bundle, "onnxruntime", options.threads, score_threshold=0, variant=variant)
            )
            for variant in VARIANTS
        }
        rows = [row for split in SPLITS for row in scene_rows(predictors, manifest, split, options)]
        rows += photograph_rows(predictors, manifest, options) if options.photographs is not None else []
    for row in rows:
        print(_shown(row))
    print(f"Written: {write_study('accuracy', rows, options.output)}")


def scene_rows(
    predictors: Mapping[str, MaskPredictor], manifest: Manifest, split: str, options: argparse.Namespace
) -> list[Row]:
    """The rows of one split."""
    labels = Labels(manifest.classes, manifest.category_ids)
    images = split_images(options.data, split, options.limit, labels)
    ids = images.ids
    results = _predicted(predictors, images.read, ids, split)
    draws = draw_images(len(ids), options.resamples, options.seed)
    shared = {"images": len(ids), "resamples": options.resamples, "seed": options.seed}
    points, spreads = {}, {}
    for variant, detections in results.items():
        points[variant] = score(images.coco, detections, ids)
        spreads[variant] = _spread(f"{split}, {variant}", images.coco, detections, ids, draws)
    rows = []
    for variant in VARIANTS:
        name = f"{variant}/{split}" if variant == FLOAT else f"{manifest.recipe.name}/{variant}/{split}"
        row = {"name": name, **accuracy_columns(points[variant], spreads[variant])}
        if variant != FLOAT:
            row |= retention_columns(points[variant], points[FLOAT], spreads[variant], spreads[FLOAT])
        rows.append(row | shared)
    return rows


def photograph_rows(
    predictors: Mapping[str, MaskPredictor], manifest: Manifest, options: argparse.Namespace
) -> list[Row]:
    """The rows of the photographs."""
    files = sorted(options.photographs.glob("*.jpg"))[: options.limit]
    if not files:
        sys.exit(f"error: {options.photographs} holds no .jpg file: give a folder of photographs")
    images = [read_image(path) for path in files]
    ids = range(len(images))
    results = _predicted(predictors, images.__getitem__, ids, "photographs")
    entries = [
        {"id": image_id, "file_name": path.name, "height": image.shape[0], "width": image.shape[1]}
        for image_id, path, image in zip(ids, files, images, strict=True)
    ]
    labels = Labels(manifest.classes, manifest.category_ids)
    ground_truth = pseudo_labels(results.pop(FLOAT), entries, labels, PHOTOGRAPHS_THRESHOLD)
    draws = draw_images(len(images), options.resamples, options.seed)
    shared = {
        "instances": len(ground_truth.anns),
        "images": len(images),
        "resamples": options.resamples,
        "seed": options.seed,
    }
    rows = []
    for variant, detections in results.items():
        row: Row = {"name": f"{manifest.recipe.name}/{variant}/photographs"}
        reached = score(ground_truth, detections, ids)
        if "mask_ap50" in reached:
            spread = _spread(f"photographs, {variant}", ground_truth, detections, ids, draws)
            row |= _with_ends("mask_ap50", reached["mask_ap50"], spread["mask_ap50"])
            row |= {"target_mask_ap50": PHOTOGRAPHS_AP50, "passed": int(reached["mask_ap50"] >= PHOTOGRAPHS_AP50)}
        else:
            row |= {"error": f"float finds nothing with a score of {PHOTOGRAPHS_THRESHOLD} or more"}
        rows.append(row | shared)
    return rows


def accuracy_columns(points: Mapping[str, float], spread: Mapping[str, NDArray[np.float64]]) -> Row:
    """Each mask AP with the ends of its interval, and box AP."""
    row: Row = {}
    for metric in (name for name in points if name.startswith("mask_ap")):
        row |= _with_ends(metric, points[metric], spread[metric])
    return row | {"box_ap": round(points["box_ap"], 4)}


def retention_columns(
    points: Mapping[str, float], base: Mapping[str, float], spread: Mapping[str, NDArray[np.float64]],
    base_spread: Mapping[str, NDArray[np.float64]],
) -> Row:  # fmt: skip
    """Mask AP over float's, of all, by size and by class, with intervals; the worst, the targets and whether met."""
    if not base["mask_ap"]:
        return {"error": "float finds nothing"}
    row: Row = {}
    shares: dict[str, float] = {}
    for suffix in (
        name.removeprefix("mask_ap") for name, value in base.items() if name.startswith("mask_ap") and value
    ):
        if suffix not in ("50", "75"):
            metric = f"mask_ap{suffix}"
            shares[suffix] = round(points.get(metric, 0.0) / base[metric], 4)
            row |= _with_ends(f"retention{suffix}", shares[suffix], ratio(spread[metric], base_spread[metric]))
    row["retention_class_worst"] = min(share for suffix, share in shares.items() if suffix.startswith("/"))
    row["retention_size_worst"] = min(shares[suffix] for suffix in SIZES if suffix in shares)
    row |= {f"target_{name}": least for name, least in TARGETS.items()}
    return row | {"passed": int(all(row[name] >= least for name, least in TARGETS.items()))}


def _with_ends(metric: str, value: float, spread: NDArray[np.float64]) -> Row:
    """A metric and its interval; of a class, `mask_ap/mug` has `mask_ap_low/mug`."""
    kind, slash, name = metric.partition("/")
    ends = dict(zip((f"{kind}_low{slash}{name}", f"{kind}_high{slash}{name}"), interval(spread), strict=True))
    return {metric: round(value, 4)} | {end: round(bound, 4) for end, bound in ends.items() if np.isfinite(bound)}


def _predicted(
    predictors: Mapping[str, MaskPredictor], read: Callable[[int], NDArray[np.uint8]], ids: Sequence[int], name: str
) -> dict[str, Results]:
    """COCO results by variant, of the images that `read` reads by id."""
    on_image = stage(name, len(ids) * len(predictors))
    return {
        variant: coco_results(predict_images(predictor, map(read, ids), on_image), ids)
        for variant, predictor in predictors.items()
    }


def _spread(
    name: str, coco: COCO, results: Results, ids: Sequence[int], draws: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Each mask AP on every draw."""
    return Matches.of(coco, results, ids).distribution(draws, stage(f"draws of {name}", len(draws)))


def _checked(bundle: Path) -> Manifest:
    manifest = Bundle.open(bundle).manifest
    missing = [variant for variant in VARIANTS if variant not in manifest.graphs]
    if missing:
        sys.exit(f"error: {bundle} lacks the graphs {', '.join(missing)}: make it with --keep-float")
    return manifest


def _shown(row: Row) -> str:
    kept = ("mask_ap", "mask_ap50", "retention", "retention_low", "retention_high", *TARGETS, "instances", "passed")
    return f"{row['name']:<24}" + "  ".join(f"{name} {row[name]:.4g}" for name in dict.fromkeys(kept) if name in row)


def _parse_arguments() -> argparse.Namespace:
    parser = scenes_parser(__doc__, "checkpoint", "calibration", "threads", "limit")
    parser.add_argument("--photographs", type=Path, help="folder of photographs; left out, their rows are too")
    parser.add_argument("--bundle", type=Path, help="measure this one, made with --keep-float")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="draws of the bootstrap")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    return parser.parse_args()


if __name__ == "__main__":
    run_study(main)
