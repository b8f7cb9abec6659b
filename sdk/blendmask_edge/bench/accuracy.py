"""COCO box and mask AP of anything that turns pictures into instances (pycocotools)."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence

import numpy as np
from pycocotools.cocoeval import COCOeval

from blendmask_edge.annotations import image_ids, read_coco
from blendmask_edge.imaging import read_image
from blendmask_edge.instances import Instances

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pycocotools.coco import COCO

    from blendmask_edge.bundle.atomic import PathLike

Predictor = Callable[["NDArray[np.uint8]"], Instances]
OnImage = Callable[[], None]

_STATS = {"": 0, "50": 1, "75": 2, "_small": 3, "_medium": 4, "_large": 5}


def evaluate(
    predict: Predictor,
    images: PathLike,
    annotations: PathLike,
    limit: Optional[int] = None,
    on_image: Optional[OnImage] = None,
) -> Dict[str, float]:
    """Return box and mask AP of a predictor on annotated pictures; see `collect_results` and `score`.

    Raises:
        AnnotationError: unreadable annotations, or pictures missing from the folder.
    """
    coco = read_coco(annotations)
    ids = image_ids(coco, images, limit)
    return score(coco, collect_results(predict, images, coco, ids, on_image), ids)


def collect_results(
    predict: Predictor, images: PathLike, coco: COCO, ids: Sequence[int], on_image: Optional[OnImage] = None
) -> List[Dict[str, Any]]:
    """Return COCO results of the pictures `ids`.

    Args:
        predict: a picture (H, W, 3) uint8 RGB to its instances; a `MaskPredictor` or a `TorchPredictor`.
        images: folder of the pictures.
        coco: their annotations.
        ids: which pictures.
        on_image: called after each picture.
    """
    results: List[Dict[str, Any]] = []
    for image_id in ids:
        image = read_image(Path(images) / coco.imgs[image_id]["file_name"])
        results += predict(image).to_coco(image_id)
        if on_image is not None:
            on_image()
    return results


def score(coco: COCO, results: List[Dict[str, Any]], ids: Sequence[int]) -> Dict[str, float]:
    """Return average precision: `mask_ap`, `mask_ap50`, `mask_ap_small`, `mask_ap/NAME` of a class, `box_ap` ...

    Values are 0..1; a class or size that the annotations do not show is left out. As detectron2
    evaluation/coco_evaluation.py does, an object found counts as small or large by its mask for `mask_ap_small`, by
    its box for `box_ap_small`.
    """
    if not results:
        return {"mask_ap": 0.0, "box_ap": 0.0}
    masks = [{name: value for name, value in result.items() if name != "bbox"} for result in results]
    return {**_task_scores("mask", "segm", coco, masks, ids), **_task_scores("box", "bbox", coco, results, ids)}


def _task_scores(
    task: str, iou_type: str, coco: COCO, results: List[Dict[str, Any]], ids: Sequence[int]
) -> Dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, coco.loadRes([dict(result) for result in results]), iou_type)
        evaluation.params.imgIds = list(ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics = {f"{task}_ap{suffix}": float(evaluation.stats[index]) for suffix, index in _STATS.items()}
    metrics.update({f"{task}_ap/{name}": ap for name, ap in _class_aps(coco, evaluation).items()})
    return {name: value for name, value in metrics.items() if value >= 0}


def _class_aps(coco: COCO, evaluation: Any) -> Dict[str, float]:
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    aps = {}
    for index, category in enumerate(evaluation.params.catIds):
        valid = precision[:, :, index][precision[:, :, index] > -1]
        if valid.size:
            aps[coco.cats[category]["name"]] = float(valid.mean())
    return aps
