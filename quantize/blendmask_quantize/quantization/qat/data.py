"""The split of the images: some to train a quantized network on, the others held out to evaluate it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from blendmask_calibration.sampling import list_images, sample
from blendmask_edge.errors import AnnotationError, CalibrationError, ImageError
from blendmask_edge.evaluation.annotations import AnnotatedImages, read_coco
from blendmask_edge.evaluation.predictions import Predictor, coco_results
from blendmask_edge.evaluation.pseudo_labels import pseudo_labels
from blendmask_edge.imaging import read_image
from blendmask_edge.labels import Labels
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.quantization.qat.options import QatOptions
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.images import PlainImages
from blendmask_quantize.training.stream import Images

FEWEST = 8
"""Images below which there is nothing to train on and to hold out."""
CONFIDENT = 0.5
"""Score from which a detection of the float network counts as ground truth."""
DOUBTFUL = 0.05
"""Score from which a less confident one is neither right nor wrong."""
_MOST_HELD_OUT_SHARE = 0.4

Source = TypeVar("Source", bound=Images)


@dataclass(frozen=True)
class QatData(Generic[Source]):
    """Images to train on, and images held out.

    Attributes:
        training: source of augmented images.
        labeled: whether they carry their instances.
        held_out: the held-out images with their instances: labels, or the confident detections of the float network.
        names: of the training images, sorted.
    """

    training: Source
    labeled: bool
    held_out: AnnotatedImages
    names: tuple[str, ...]

    @property
    def ground_truth(self) -> str:
        """Source of the held-out instances."""
        return "labels" if self.labeled else "the float network"


def labeled_data(folder: Path, annotations: Path, checkpoint: Checkpoint, options: QatOptions) -> QatData[CocoImages]:
    """Annotated images of a folder.

    Raises:
        AnnotationError: they cannot be read, do not fit the images or the network's classes, or are too few.
    """
    config, schedule = checkpoint.config, options.training
    images = CocoImages.open(folder, annotations, config, schedule.augmentation, labels=checkpoint.labels)
    selected, held_out = _split([Path(name) for name in images.file_names], options, AnnotationError)
    coco = read_coco(annotations)
    wanted = {path.as_posix() for path in held_out}
    ids = sorted(i for i, entry in coco.imgs.items() if entry["file_name"] in wanted)
    annotated = AnnotatedImages(coco, folder, ids)
    annotated.check_labels(checkpoint.labels)
    chosen = tuple(sorted(path.as_posix() for path in selected))
    return QatData(images.only(frozenset(chosen)), True, annotated, chosen)


def unlabeled_data(
    folder: Path, checkpoint: Checkpoint, float_network: Predictor, options: QatOptions
) -> QatData[PlainImages]:
    """Images of a folder without annotations; files that cannot be read are left out.

    Raises:
        CalibrationError: they are too few, or the float network detects no instance with confidence in them.
    """
    selected, held_out = _split([path for path in list_images(folder) if _readable(path)], options, CalibrationError)
    training = PlainImages(sorted(selected), checkpoint.labels, checkpoint.config, options.training.augmentation)
    names = tuple(path.relative_to(folder).as_posix() for path in training.paths)
    return QatData(training, False, pseudo_labeled(float_network, sorted(held_out), checkpoint.labels), names)


def pseudo_labeled(float_network: Predictor, paths: Sequence[Path], labels: Labels) -> AnnotatedImages:
    """Images with the instances that the float network detects with confidence.

    Raises:
        CalibrationError: it detects none with confidence.
        ImageError: a file is not an image.
    """
    detections = [float_network(read_image(path)) for path in paths]
    ids = range(1, len(paths) + 1)
    entries = [
        {"id": number, "file_name": str(path), "height": instances.image_size[0], "width": instances.image_size[1]}
        for number, path, instances in zip(ids, paths, detections, strict=True)
    ]
    coco = pseudo_labels(coco_results(detections, ids), entries, labels, CONFIDENT, DOUBTFUL)
    if all(annotation["iscrowd"] for annotation in coco.anns.values()):
        raise CalibrationError(
            f"the float network detects no instance with confidence in {len(paths)} held-out images, so nothing can "
            "be compared with it: calibrate on images of what it was trained for, or give --annotations"
        )
    return AnnotatedImages(coco, Path(), ids)


def check_apart(qat_data: QatData[Any], folder: Path, evaluated: Iterable[Path]) -> None:
    """See that accuracy is not measured on images that the network is trained on or chosen by.

    Args:
        qat_data: of the training.
        folder: of its images.
        evaluated: the images that accuracy is measured on.

    Raises:
        AnnotationError: an image is in both.
    """
    paths = [*(folder / name for name in qat_data.names), *qat_data.held_out.paths]
    shared = {path.resolve() for path in paths} & {path.resolve() for path in evaluated}
    if shared:
        raise AnnotationError(
            f"{len(shared)} of the evaluation images are also trained on, e.g. {min(shared).name}: measure on others"
        )


def _split(
    paths: Sequence[Path], options: QatOptions, error: type[AnnotationError | CalibrationError]
) -> tuple[list[Path], list[Path]]:
    """Images to train on and images to hold out: the last of the sample, of which calibration takes the first."""
    if len(paths) < FEWEST:
        raise error(
            f"{len(paths)} images are too few to train on and to evaluate on: give at least {FEWEST}, better hundreds, "
            "or use --recipe ptq"
        )
    sampled = sample(paths, len(paths), options.training.seed)
    wanted = max(round(options.held_out_share * len(sampled)), options.held_out_least)
    count = max(1, min(wanted, options.held_out_most, int(_MOST_HELD_OUT_SHARE * len(sampled))))
    return sampled[:-count], sampled[-count:]


def _readable(path: Path) -> bool:
    try:
        read_image(path)
    except ImageError:
        return False
    return True
