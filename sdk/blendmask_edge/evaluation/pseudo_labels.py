"""Detections of one network as the ground truth of another, where nobody has labeled the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional

from pycocotools import mask as rle_codec

from blendmask_edge.evaluation.annotations import as_coco

if TYPE_CHECKING:
    from pycocotools.coco import COCO

    from blendmask_edge.evaluation.predictions import Results
    from blendmask_edge.labels import Labels


def pseudo_labels(
    results: Results, images: Iterable[Dict[str, Any]], labels: Labels, score_threshold: float,
    doubtful: Optional[float] = None,
) -> COCO:  # fmt: skip
    """Return the annotations that confident detections stand for; those with an empty mask are left out.

    Args:
        results: COCO results.
        images: COCO entries of the images: id, file_name, height, width.
        labels: of the network that detected.
        score_threshold: least score, 0..1.
        doubtful: score from which less confident detections become crowds: what matches them is neither right nor
            wrong. None leaves them out.
    """
    least = score_threshold if doubtful is None else doubtful
    confident = [result for result in results if result["score"] >= least]
    areas = [float(rle_codec.area(result["segmentation"])) for result in confident]
    annotations: List[Dict[str, Any]] = [
        {**result, "area": area, "iscrowd": int(result["score"] < score_threshold)}
        for result, area in zip(confident, areas)
        if area
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    categories = [{"id": number, "name": name} for number, name in zip(labels.category_ids, labels.names)]
    return as_coco({"images": list(images), "annotations": annotations, "categories": categories})
