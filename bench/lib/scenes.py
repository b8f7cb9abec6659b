"""Locate the shipped model and images, and the held-out splits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.study import study_parser
from blendmask_edge import Labels, read_image
from blendmask_edge.benchmark.side_by_side import THREADS
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import evaluate
from blendmask_edge.evaluation.predictions import OnImage, Predictor, ignore

SCENES = Path(__file__).parents[2] / "examples" / "homescenes"
CHECKPOINT = SCENES / "lite0_rt.safetensors"
CALIBRATION = SCENES / "calibration"
EVALUATION = SCENES / "evaluation"
SPLITS = ("val", "val_seen")
"""Instances that training never showed, and new images of those that it did."""
METRICS = ("mask_ap", "box_ap", "mask_ap50", "mask_ap_small", "mask_ap_medium", "mask_ap_large")
"""Accuracy columns of a row, where the images show them."""


_OPTIONS: dict[str, dict[str, Any]] = {
    "checkpoint": {"type": Path, "default": CHECKPOINT},
    "calibration": {"type": Path, "default": CALIBRATION, "help": "folder of calibration images"},
    "work": {"type": Path, "required": True, "help": "folder for what is made, to go on from"},
    "limit": {"type": int, "help": "only the first images of each split, to try things out"},
    "threads": {"type": int, "default": THREADS, "help": "of the network"},
}


def scenes_parser(description: str | None, *names: str) -> argparse.ArgumentParser:
    """Return a `study_parser` for studies on homescenes, with its folder.

    Args:
        description: shown by `--help` as it stands.
        names: further options that several studies have: "checkpoint", "calibration", "work", "threads", "limit".
    """
    parser = study_parser(description)
    for name in names:
        parser.add_argument(f"--{name}", **_OPTIONS[name])
    parser.add_argument("--data", type=Path, required=True, help="folder of homescenes")
    return parser


def accuracy(
    predict: Predictor, data: Path, split: str, limit: int | None = None, on_image: OnImage = ignore
) -> dict[str, float]:
    """COCO metrics of a predictor on a split, 0 to 1, to four digits.

    Args:
        predict: image to instances.
        data: folder with `val/`, `val.json`, `val_seen/` and `val_seen.json`.
        split: one of `SPLITS`.
        limit: only the first images.
        on_image: called after each image.
    """
    metrics = evaluate(predict, split_images(data, split, limit), on_image)
    return {name: round(metrics[name], 4) for name in METRICS if name in metrics}


def split_images(data: Path, split: str, limit: int | None = None, labels: Labels | None = None) -> AnnotatedImages:
    """The annotated images of a split, or the first of them; see `AnnotatedImages.open`."""
    return AnnotatedImages.open(data / split, data / f"{split}.json", labels, limit)


def frames(data: Path, split: str, most: int) -> list[NDArray[np.uint8]]:
    """The first images of a split by name, (H, W, 3) uint8 RGB, to time on."""
    return [read_image(path) for path in sorted((data / split).glob("*.jpg"))[:most]]
