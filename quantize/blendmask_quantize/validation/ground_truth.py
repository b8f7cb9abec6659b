"""Held-out images with instances to score networks against: labels, or what the float network detects in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from blendmask_edge.errors import AnnotationError, CalibrationError
from blendmask_edge.evaluation.annotations import AnnotatedImages, read_coco
from blendmask_edge.evaluation.predictions import Predictor, Results, coco_results, ignore, predict_images
from blendmask_edge.evaluation.pseudo_labels import pseudo_labels
from blendmask_edge.labels import Labels
from blendmask_quantize.runs.progress import OnStep

CONFIDENT = 0.5
"""Score from which a detection of the float network counts as ground truth."""
DOUBTFUL = 0.05
"""Score from which a detection of the float network is neither right nor wrong, if it is less than `CONFIDENT`."""


LABELED, DETECTED = "labels", "the float network"
"""Sources of instances."""


@dataclass(frozen=True)
class GroundTruth:
    """Images in memory, and their instances.

    Attributes:
        frames: (H, W, 3) uint8 RGB each.
        coco: the instances.
        ids: of the images in `coco`.
        source: of the instances, `LABELED` or `DETECTED`.
    """

    frames: Sequence[NDArray[np.uint8]]
    coco: COCO
    ids: Sequence[int]
    source: str

    def results(self, predict: Predictor, on_image: OnStep = ignore) -> Results:
        """COCO results of a predictor on the images.

        Args:
            predict: image to instances.
            on_image: called after each image.
        """
        return coco_results(predict_images(predict, self.frames, on_image), self.ids)


def annotated_ids(annotations: Path, names: Sequence[str]) -> tuple[COCO, list[int]]:
    """Read the annotations of images.

    Args:
        annotations: COCO instances JSON.
        names: of the images, as the annotations should have them.

    Returns:
        The annotations, and the id of each image.

    Raises:
        AnnotationError: they cannot be read, or an image is not annotated.
    """
    coco = read_coco(annotations)
    by_name = {entry["file_name"]: number for number, entry in coco.imgs.items()}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise AnnotationError(
            f"{len(missing)} of {len(names)} calibration images are not in {annotations}, e.g. {missing[0]}: the "
            "images to measure on are held out of them, so annotate all, or leave --annotations out to compare with "
            "what the float network detects"
        )
    return coco, [by_name[name] for name in names]


def from_labels(annotations: Path, folder: Path, names: Sequence[str], labels: Labels) -> GroundTruth:
    """Images of a folder with their labels.

    Args:
        annotations: COCO instances JSON.
        folder: of the images.
        names: of the images, relative to the folder.
        labels: of the network.

    Raises:
        AnnotationError: the annotations do not fit the images or the network.
    """
    coco, ids = annotated_ids(annotations, names)
    images = AnnotatedImages(coco, folder, ids)
    images.check_labels(labels)
    return GroundTruth([images.read(number) for number in ids], coco, ids, LABELED)


def from_float_network(frames: Sequence[NDArray[np.uint8]], predict: Predictor, labels: Labels) -> GroundTruth:
    """Images with the instances that the float network detects with confidence.

    Those that it doubts are neither right nor wrong, so that a score that moves past a threshold costs nothing.

    Args:
        frames: (H, W, 3) uint8 RGB each.
        predict: the float network.
        labels: of the network.

    Raises:
        CalibrationError: it detects none with confidence.
    """
    ids = range(1, len(frames) + 1)
    entries = [
        {"id": number, "file_name": str(number), "height": frame.shape[0], "width": frame.shape[1]}
        for number, frame in zip(ids, frames, strict=True)
    ]
    results = coco_results(predict_images(predict, frames), ids)
    coco = pseudo_labels(results, entries, labels, CONFIDENT, DOUBTFUL)
    if all(annotation["iscrowd"] for annotation in coco.anns.values()):
        raise CalibrationError(
            f"the float network detects no instance with confidence in {len(frames)} held-out images, so nothing can "
            "be compared with it: calibrate on images of what it was trained for, or give --annotations"
        )
    return GroundTruth(frames, coco, ids, DETECTED)
