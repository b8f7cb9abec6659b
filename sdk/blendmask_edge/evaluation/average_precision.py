"""COCO box and mask AP of anything that turns images into instances (pycocotools)."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any, Dict, List, Sequence

import numpy as np
from pycocotools.cocoeval import COCOeval

from blendmask_edge.evaluation.annotations import as_coco
from blendmask_edge.evaluation.predictions import OnImage, Predictor, ignore, predict_annotated

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pycocotools.coco import COCO

    from blendmask_edge.evaluation.annotations import AnnotatedImages

IOU_TYPES = {"mask": "segm", "box": "bbox"}
"""COCO's names of the tasks."""
_EVERY = slice(None)
_PLACES = {
    "": (_EVERY, 0), "50": (slice(0, 1), 0), "75": (slice(5, 6), 0),
    "_small": (_EVERY, 1), "_medium": (_EVERY, 2), "_large": (_EVERY, 3),
}  # fmt: skip
"""Overlaps and size that a suffix stands for, in `COCOeval`'s array of precisions."""


def evaluate(predict: Predictor, images: AnnotatedImages, on_image: OnImage = ignore) -> Dict[str, float]:
    """Return box and mask AP of a predictor on annotated images, by name as `score`.

    Args:
        predict: image to instances.
        images: annotated.
        on_image: called after each image.

    Raises:
        AnnotationError, ImageError: as `AnnotatedImages.read`.
    """
    return score(images.coco, predict_annotated(predict, images, on_image), images.ids)


def score(coco: COCO, results: List[Dict[str, Any]], ids: Sequence[int]) -> Dict[str, float]:
    """Return average precision: `mask_ap`, `mask_ap50`, `mask_ap_small`, `mask_ap/NAME` of a class, `box_ap` ...

    Values are 0..1; a class or size that the annotations do not show is left out. As detectron2
    evaluation/coco_evaluation.py does, a detection counts as small or large by its mask for `mask_ap_small`, by
    its box for `box_ap_small`.
    """
    if not results:
        return {"mask_ap": 0.0, "box_ap": 0.0}
    metrics: Dict[str, float] = {}
    for task in IOU_TYPES:
        matched = match(coco, results, ids, task)
        with contextlib.redirect_stdout(io.StringIO()):
            matched.accumulate()
        names = [coco.cats[category]["name"] for category in matched.params.catIds]
        metrics.update(average_precisions(matched.eval["precision"][..., -1], names, task))
    return metrics


def match(coco: COCO, results: List[Dict[str, Any]], ids: Sequence[int], task: str) -> COCOeval:
    """Match results with annotations, image by image, and return the `COCOeval` that has done so.

    Args:
        coco: the annotations.
        results: COCO results; what lies outside `ids` does not count.
        ids: which images.
        task: "mask" or "box".
    """
    entries = [{name: value for name, value in result.items() if task == "box" or name != "bbox"} for result in results]
    with contextlib.redirect_stdout(io.StringIO()):
        detections = coco.loadRes(entries) if entries else as_coco({**coco.dataset, "annotations": []})
        evaluation = COCOeval(coco, detections, IOU_TYPES[task])
        evaluation.params.imgIds = list(ids)
        evaluation.evaluate()
    return evaluation


def average_precisions(precision: NDArray[np.float64], classes: Sequence[str], task: str) -> Dict[str, float]:
    """Average COCO's precisions as its own summary does, over all, by size and by class.

    Args:
        precision: (T, R, K, 4) by overlap, recall, class and size (all, small, medium, large), -1 where nothing is
            annotated.
        classes: K names.
        task: "mask" or "box", which the names of the metrics begin with.

    Returns:
        0..1; what the annotations do not show is left out.
    """
    chosen = {suffix: precision[overlaps, :, :, size] for suffix, (overlaps, size) in _PLACES.items()}
    chosen.update({f"/{name}": precision[:, :, index, 0] for index, name in enumerate(classes)})
    valid = {suffix: values[values > -1] for suffix, values in chosen.items()}
    return {f"{task}_ap{suffix}": float(values.mean()) for suffix, values in valid.items() if values.size}
