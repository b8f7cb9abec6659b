"""The instances of held-out calibration images: labels, or what the float network detects."""

from __future__ import annotations

from pathlib import Path

from blendmask_calibration.dataset import CalibrationDataset
from blendmask_calibration.sampling import list_images
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.predictions import Predictor
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.pipeline.calibration_set import CalibrationSet
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.validation.ground_truth import GroundTruth, annotated_ids, from_float_network, from_labels


def check_labels(checkpoint: Checkpoint, dataset: CalibrationDataset, annotations: PathLike | None) -> None:
    """See that every image that may be held out is labeled, where labels are given.

    Args:
        checkpoint: names the classes.
        dataset: calibration images.
        annotations: COCO instances JSON of these images, if any.

    Raises:
        AnnotationError: one is not labeled, or the labels are of other classes.
    """
    if annotations is None or dataset.folder is None:
        return
    folder = dataset.folder
    coco, ids = annotated_ids(Path(annotations), [path.relative_to(folder).as_posix() for path in list_images(folder)])
    AnnotatedImages(coco, folder, ids).check_labels(checkpoint.labels)


def held_out_truth(
    checkpoint: Checkpoint, dataset: CalibrationDataset, annotations: PathLike | None, images: CalibrationSet,
    float_network: Predictor,
) -> GroundTruth:  # fmt: skip
    """Return the held-out images with their labels, or with what the float network detects in them.

    Args:
        checkpoint: names the classes.
        dataset: that the images were read from.
        annotations: COCO instances JSON of its images, if any.
        images: some of which are held out.
        float_network: predicts instances where there are no labels.

    Raises:
        AnnotationError: the labels do not fit the images or the network.
        CalibrationError: without labels, the float network detects nothing with confidence.
    """
    if annotations is not None and dataset.folder is not None:
        names = [image.name for image in images.record.held_out]
        return from_labels(Path(annotations), dataset.folder, names, checkpoint.labels)
    return from_float_network([image[0] for image in images.held_out], float_network, checkpoint.labels)
