"""A training run, on labeled images or beside a teacher, ready to start."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blendmask_calibration.dataset import list_images
from blendmask_edge.errors import CalibrationError, ConfigError
from blendmask_edge.labels import Labels
from blendmask_quantize.checkpoints.adelaidet_yaml import find_config
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.runs.progress import Progress
from blendmask_quantize.runs.run_folder import RESUME_FILE, RunFolder, Setting
from blendmask_quantize.training import loop
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.distill import distill
from blendmask_quantize.training.distill_weights import StudentWeights
from blendmask_quantize.training.images import PlainImages
from blendmask_quantize.training.labeled_images import LabeledImages, listing_digest, read_labeled_images
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.processes import first_process
from blendmask_quantize.training.run_settings import data_settings, network_settings, option_settings, weights_digest
from blendmask_quantize.training.start import NEW, AnyConfig, Origin, new_network, starting_network
from blendmask_quantize.training.stream import AugmentedStream
from blendmask_quantize.training.student import check_teacher

_NAMED = 5

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """Everything that a run needs.

    Attributes:
        model: the network to train.
        origin: where it comes from.
        stream: the augmented images of the whole run.
        options: the schedule.
        settings: what the run can only be resumed with.
        teacher: a trained network to learn from as well.
        labeled: whether the images show instances to learn from.
    """

    model: BlendMask
    origin: Origin
    stream: AugmentedStream
    options: TrainOptions
    settings: Mapping[str, Setting]
    teacher: Checkpoint | None = None
    labeled: bool = True


def make_job(
    data: Iterable[tuple[Path, Path]], options: TrainOptions, config: AnyConfig, weights: Path | Checkpoint | None, *,
    teacher: Checkpoint | None = None, keep_empty: bool = False,
) -> TrainingJob:  # fmt: skip
    """Read the annotations and build the network; what a user should know is logged.

    Args:
        data: folders of images, each with its annotations.
        options: the schedule.
        config: a configuration, its name, or a YAML file; None takes that of the weights, else the default.
        weights: a checkpoint, or its path.
        teacher: a trained network of the same classes to learn from as well.
        keep_empty: train on images without annotations as well.

    Raises:
        AnnotationError: annotations cannot be read, do not fit the images, or name different classes.
        CheckpointError: the weights do not fit.
        ConfigError: a configuration or class is unknown, or the network cannot learn from the teacher.
    """
    options.check_learns()
    labeled = [
        read_labeled_images(folder, file, keep_empty=keep_empty, sampling=options.sampling) for folder, file in data
    ]
    for images in labeled:
        _say(images, keep_empty)
    model, origin = starting_network(config, weights, labeled[0].labels, options.seed)
    sources = [CocoImages(images, model.config, options.augmentation, options.sampling) for images in labeled]
    stream = AugmentedStream(sources, options.augmented_images, options.seed, options.sampling)
    if teacher is not None:
        check_teacher(model.config, teacher)
        _check_labels(teacher, stream.labels)
    settings = _settings([images.digests for images in labeled], model, stream, options, teacher)
    return TrainingJob(model, origin, stream, options, settings | {"checkpoint": weights_digest(weights)}, teacher)


def _say(images: LabeledImages, keep_empty: bool) -> None:
    """Log what a user should know of the images."""
    hint = "" if keep_empty else " (--keep-empty takes images without annotations as negatives)"
    for note in images.notes():
        _LOG.warning("%s%s", note, hint if note.endswith("left out") else "")


def make_distill_job(
    folders: Sequence[Path], options: TrainOptions, config: str | Path | ModelConfig, teacher: Checkpoint
) -> TrainingJob:
    """List the images and build the student, which gets the classes of the teacher.

    Args:
        folders: of images without labels.
        options: the schedule.
        config: of the student: a configuration, its name, or a YAML file.
        teacher: the trained network.

    Raises:
        CalibrationError: a folder is missing, or has no image.
        ConfigError: the student cannot learn from the teacher, or the configuration is unknown.
    """
    wanted = replace(find_config(config), num_classes=teacher.config.num_classes)
    check_teacher(wanted, teacher)
    listed = [_list_images(folder) for folder in folders]
    model = new_network(wanted, options.seed)
    sources = [PlainImages(paths, teacher.labels, wanted, options.augmentation) for paths in listed]
    stream = AugmentedStream(sources, options.augmented_images, options.seed)
    listings = [
        listing_digest((path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths)
        for folder, paths in zip(folders, listed, strict=True)
    ]
    settings = _settings([("", listing) for listing in listings], model, stream, options, teacher)
    return TrainingJob(model, NEW, stream, options, settings, teacher, labeled=False)


def _settings(
    digests: Sequence[tuple[str, str]], model: BlendMask, stream: AugmentedStream, options: TrainOptions,
    teacher: Checkpoint | None,
) -> dict[str, Setting]:  # fmt: skip
    return {
        **data_settings(digests, stream.num_images),
        **network_settings(model.config, stream.labels),
        "teacher": weights_digest(teacher),
        **option_settings(options),
    }


def _check_labels(teacher: Checkpoint, labels: Labels) -> None:
    if teacher.labels != labels:
        raise ConfigError(
            f"{teacher.path} knows the classes {_some(teacher.labels)}, the annotations {_some(labels)}: a teacher "
            "needs the same, with the same category ids"
        )


def _some(labels: Labels) -> str:
    return ", ".join(labels.names[:_NAMED]) + ", ..." * (len(labels.names) > _NAMED)


def _list_images(folder: Path) -> list[Path]:
    paths = list_images(folder)
    if not paths:
        raise CalibrationError(f"{folder} holds no image: give a folder of images to learn from")
    return paths


@contextlib.contextmanager
def _saying_how_to_go_on(folder: Path) -> Iterator[None]:
    """Log it when the user stops a run of which there is a state."""
    try:
        yield
    except KeyboardInterrupt:
        if (folder / RESUME_FILE).exists():
            _LOG.warning("stopped; the state of the run is in %s: go on with --resume", folder)
        raise


def run_job(job: TrainingJob, folder: RunFolder, progress: Progress, *, resume: bool) -> Path:
    """Train, and return the path of the checkpoint.

    Raises:
        CheckpointError: the folder holds a finished run, one of other settings, or one to resume from without `resume`.
        DivergedError: loss or gradient is not finite.
    """
    folder = replace(folder, settings=job.settings, save_every=job.options.save_every)
    folder.check(resume=resume)
    announce = progress("training" if job.labeled else "distilling", job.options.iterations)

    def on_step(*_: object) -> None:
        announce()

    common = (job.stream, folder.path, job.options)
    with folder.active(first_process), _saying_how_to_go_on(folder.path):
        if job.teacher is None:
            return loop.train(job.model, *common, origin=job.origin, resume=resume, on_step=on_step)
        return distill(
            job.model, job.teacher, *common, StudentWeights(), labeled=job.labeled, origin=job.origin, resume=resume,
            on_step=on_step,
        )  # fmt: skip
