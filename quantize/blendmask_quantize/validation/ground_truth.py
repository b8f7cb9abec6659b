"""Ground truth of held-out images: labels, or the detections of the float network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools import mask as rle_codec
from pycocotools.coco import COCO

from blendmask_edge.errors import CalibrationError
from blendmask_edge.evaluation.annotations import as_coco
from blendmask_edge.evaluation.average_precision import Predictor
from blendmask_edge.imaging import read_image
from blendmask_edge.instances import Instances, Labels
from blendmask_quantize.validation.predict import predict_all

SURE = 0.5
"""Score from which a detection of the float network counts as ground truth."""


@dataclass(frozen=True)
class GroundTruth:
    """The instances of held-out images.

    Attributes:
        kind: its source: "labels" or "the float network".
        coco: annotations; the file names are relative to `folder`.
        folder: that the images lie in.
        ids: of the images.
    """

    kind: str
    coco: COCO
    folder: Path
    ids: tuple[int, ...]


def detections_as_ground_truth(predict: Predictor, paths: Sequence[Path], labels: Labels) -> GroundTruth:
    """The detections that a predictor is sure of, as ground truth.

    Raises:
        CalibrationError: it is sure of none in any image.
        ImageError: a file is not an image.
    """
    annotations: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    detections = predict_all(predict, (read_image(path) for path in paths))
    for image_id, (path, instances) in enumerate(zip(paths, detections, strict=True), start=1):
        height, width = instances.image_size
        images.append({"id": image_id, "file_name": str(path), "height": height, "width": width})
        annotations += _annotations(instances[instances.scores >= SURE], image_id, len(annotations) + 1)
    if not annotations:
        raise CalibrationError(
            f"the float network is sure of no instance in {len(images)} held-out images, so nothing can be compared "
            "with it: calibrate on images of what it was trained for, or give --annotations"
        )
    categories = [{"id": i, "name": name} for i, name in zip(labels.category_ids, labels.names, strict=True)]
    coco = as_coco({"images": images, "annotations": annotations, "categories": categories})
    return GroundTruth("the float network", coco, Path(), tuple(range(1, len(images) + 1)))


def _annotations(instances: Instances, image_id: int, first_id: int) -> list[dict[str, Any]]:
    return [
        {**result, "id": number, "iscrowd": 0, "area": float(rle_codec.area(result["segmentation"]))}
        for number, result in enumerate(instances.to_coco(image_id), start=first_id)
    ]
