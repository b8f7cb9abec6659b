"""COCO box and mask AP of anything that turns pictures into instances (pycocotools)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from blendmask_edge.errors import AnnotationError
from blendmask_edge.imaging import read_image
from blendmask_edge.instances import Instances
from blendmask_quantize.train.data import read_coco

Predictor = Callable[[NDArray[np.uint8]], Instances]
OnImage = Callable[[], None]

_TASKS = {"mask": "segm", "box": "bbox"}
_STATS = {"": 0, "50": 1, "75": 2, "_small": 3, "_medium": 4, "_large": 5}


def image_ids(coco: COCO, images: str | Path, limit: int | None = None) -> list[int]:
    """Ids of the annotated pictures, the first `limit` of them.

    Raises:
        AnnotationError: a picture is missing from the folder.
    """
    ids = sorted(coco.getImgIds())[:limit]
    names = [coco.imgs[image_id]["file_name"] for image_id in ids]
    missing = [name for name in names if not (Path(images) / name).is_file()]
    if missing or not ids:
        found = f"{len(missing)} of {len(names)} annotated pictures are not in {images}" if ids else "no picture is annotated"
        raise AnnotationError(f"{found}, e.g. {missing[:1]}: give the folder that the annotations belong to")
    return ids


def collect_results(
    predict: Predictor, images: str | Path, coco: COCO, ids: list[int], on_image: OnImage | None = None
) -> list[dict[str, Any]]:
    """COCO results of the pictures `ids`.

    Args:
        predict: a picture (H, W, 3) uint8 RGB to its instances; a `MaskPredictor` or a `TorchPredictor`.
        images: folder of the pictures.
        coco: their annotations.
        ids: which pictures.
        on_image: called after each picture.
    """
    results: list[dict[str, Any]] = []
    for image_id in ids:
        image = read_image(Path(images) / coco.imgs[image_id]["file_name"])
        results += predict(image).to_coco(image_id)
        if on_image is not None:
            on_image()
    return results


def score(coco: COCO, results: list[dict[str, Any]], ids: list[int]) -> dict[str, float]:
    """Average precision of results: `mask_ap`, `mask_ap50`, `mask_ap_small`, `mask_ap/NAME` of a class, `box_ap` ...

    Values are 0..1; a class or size that the annotations do not show is left out.
    """
    if not results:
        return {f"{task}_ap": 0.0 for task in _TASKS}
    metrics: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        found = coco.loadRes(results)
        for task, iou_type in _TASKS.items():
            evaluation = COCOeval(coco, found, iou_type)
            evaluation.params.imgIds = ids
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            metrics |= {f"{task}_ap{suffix}": float(evaluation.stats[index]) for suffix, index in _STATS.items()}
            metrics |= {f"{task}_ap/{name}": ap for name, ap in _class_aps(coco, evaluation).items()}
    return {name: value for name, value in metrics.items() if value >= 0}


def evaluate(
    predict: Predictor, images: str | Path, annotations: str | Path, limit: int | None = None,
    on_image: OnImage | None = None,
) -> dict[str, float]:  # fmt: skip
    """Box and mask AP of a predictor on annotated pictures; see `collect_results` and `score`.

    Raises:
        AnnotationError: unreadable annotations, or pictures missing from the folder.
    """
    coco = read_coco(annotations)
    ids = image_ids(coco, images, limit)
    return score(coco, collect_results(predict, images, coco, ids, on_image), ids)


def _class_aps(coco: COCO, evaluation: COCOeval) -> dict[str, float]:
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    aps = {}
    for index, category in enumerate(evaluation.params.catIds):
        valid = precision[:, :, index][precision[:, :, index] > -1]
        if valid.size:
            aps[coco.cats[category]["name"]] = float(valid.mean())
    return aps
