"""Which pictures a quantised network is trained on, and which judge it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blendmask_calibration.dataset import list_images, sample
from blendmask_edge.errors import AnnotationError, CalibrationError, ImageError
from blendmask_edge.evaluation.annotations import check_match, read_coco
from blendmask_edge.imaging import read_image
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.quantization.qat.criterion import Truth, found_by
from blendmask_quantize.quantization.qat.options import TuneOptions
from blendmask_quantize.training.data import CocoPictures, Pictures
from blendmask_quantize.training.images import PlainPictures
from blendmask_quantize.validation.evaluate import Predictor

FEWEST = 8
"""Pictures below which there is nothing to train on and to hold out."""


@dataclass(frozen=True)
class Material:
    """Pictures to train on, and the others to judge by.

    Attributes:
        training: where random views come from.
        labelled: whether they show their objects.
        truth: what the held-out pictures show.
        names: of the training pictures, sorted.
    """

    training: Pictures
    labelled: bool
    truth: Truth
    names: tuple[str, ...]


def labelled_material(folder: Path, annotations: Path, checkpoint: Checkpoint, options: TuneOptions) -> Material:
    """Annotated pictures of a folder.

    Raises:
        AnnotationError: they cannot be read, do not fit the pictures or the network's classes, or are too few.
    """
    config, schedule = checkpoint.config, options.training
    pictures = CocoPictures(folder, annotations, config, schedule.augmentation)
    if pictures.labels != checkpoint.labels:
        raise AnnotationError(
            f"{annotations} names {_some(pictures.labels.names)}, the checkpoint knows "
            f"{_some(checkpoint.labels.names)}: give annotations of the checkpoint's classes, in their order"
        )
    names = [entry.file_name for entry in pictures.entries]
    kept, held = _split([Path(name) for name in names], options, AnnotationError)
    coco = read_coco(annotations)
    wanted = {path.as_posix() for path in held}
    ids = tuple(sorted(i for i, entry in coco.imgs.items() if entry["file_name"] in wanted))
    check_match(coco, folder, ids, checkpoint.labels)
    chosen = tuple(sorted(path.as_posix() for path in kept))
    return Material(pictures.only(frozenset(chosen)), True, Truth("labels", coco, folder, ids), chosen)


def plain_material(folder: Path, checkpoint: Checkpoint, float_network: Predictor, options: TuneOptions) -> Material:
    """Pictures of a folder without annotations; files that cannot be read are left out.

    Raises:
        CalibrationError: they are too few, or the float network is sure of nothing in them.
    """
    kept, held = _split([path for path in list_images(folder) if _readable(path)], options, CalibrationError)
    training = PlainPictures(sorted(kept), checkpoint.labels, checkpoint.config, options.training.augmentation)
    names = tuple(path.relative_to(folder).as_posix() for path in training.paths)
    return Material(training, False, found_by(float_network, sorted(held), checkpoint.labels), names)


def check_apart(material: Material, folder: Path, evaluated: Iterable[Path]) -> None:
    """See that accuracy is not measured on pictures that the network was trained on or chosen by.

    Args:
        material: of the training.
        folder: where its pictures lie.
        evaluated: the pictures that accuracy is measured on.

    Raises:
        AnnotationError: a picture is in both.
    """
    truth = material.truth
    paths = [folder / name for name in material.names]
    paths += [truth.folder / truth.coco.imgs[i]["file_name"] for i in truth.ids]
    shared = {path.resolve() for path in paths} & {path.resolve() for path in evaluated}
    if shared:
        raise AnnotationError(
            f"{len(shared)} of the evaluation pictures are also trained on, e.g. {min(shared).name}: measure on others"
        )


def _split(
    paths: Sequence[Path], options: TuneOptions, error: type[AnnotationError | CalibrationError]
) -> tuple[list[Path], list[Path]]:
    """Pictures to train on and pictures to hold out. These come last in the sample, calibration draws its first."""
    if len(paths) < FEWEST:
        raise error(
            f"{len(paths)} pictures are too few to train on and to judge by: give at least {FEWEST}, better hundreds, "
            "or use --recipe ptq"
        )
    drawn = sample(paths, len(paths), options.training.seed)
    count = max(1, min(round(options.held_share * len(drawn)), options.held_most))
    return drawn[:-count], drawn[-count:]


def _readable(path: Path) -> bool:
    try:
        read_image(path)
    except ImageError:
        return False
    return True


def _some(names: Sequence[str], most: int = 4) -> str:
    return f"{len(names)} classes ({', '.join(names[:most])}{', ...' if len(names) > most else ''})"
