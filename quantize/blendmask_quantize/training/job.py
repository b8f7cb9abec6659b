"""A training run on labeled images, ready to start."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.runs.progress import Progress
from blendmask_quantize.runs.run_folder import RunFolder, Setting
from blendmask_quantize.training import loop
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.labeled_images import read_labeled_images
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.processes import first_process
from blendmask_quantize.training.run_settings import data_settings, network_settings, option_settings, weights_digest
from blendmask_quantize.training.start import AnyConfig, Origin, starting_network
from blendmask_quantize.training.stream import AugmentedStream

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
    """

    model: BlendMask
    origin: Origin
    stream: AugmentedStream
    options: TrainOptions
    settings: Mapping[str, Setting]


def make_job(
    data: Iterable[tuple[Path, Path]], options: TrainOptions, config: AnyConfig, weights: Path | Checkpoint | None, *,
    keep_empty: bool = False,
) -> TrainingJob:  # fmt: skip
    """Read the annotations and build the network; what a user should know is logged.

    Args:
        data: folders of images, each with its annotations.
        options: the schedule.
        config: a configuration, its name, or a YAML file; None takes that of the weights, else the default.
        weights: a checkpoint, or its path.
        keep_empty: train on images without annotations as well.

    Raises:
        AnnotationError: annotations cannot be read, do not fit the images, or name different classes.
        CheckpointError: the weights do not fit.
        ConfigError: a configuration or class is unknown.
    """
    labeled = [read_labeled_images(folder, file, keep_empty=keep_empty) for folder, file in data]
    for note in [note for images in labeled for note in images.notes()]:
        _LOG.warning("%s", note)
    model, origin = starting_network(config, weights, labeled[0].labels, options.seed)
    sources = [CocoImages(images, model.config, options.augmentation, options.sampling) for images in labeled]
    stream = AugmentedStream(sources, options.augmented_images, options.seed, options.sampling)
    settings = {
        **data_settings([images.digests for images in labeled], stream.num_images),
        **network_settings(model.config, stream.labels),
        "checkpoint": weights_digest(weights),
        **option_settings(options),
    }
    return TrainingJob(model, origin, stream, options, settings)


def run_job(job: TrainingJob, folder: RunFolder, progress: Progress, *, resume: bool) -> Path:
    """Train, and return the path of the checkpoint.

    Raises:
        CheckpointError: the folder holds a finished run, one of other settings, or one to resume from without `resume`.
        DivergedError: loss or gradient is not finite.
    """
    folder = replace(folder, settings=job.settings, save_every=job.options.save_every)
    folder.check(resume=resume)
    on_step = progress("training", job.options.iterations)
    with folder.active(first_process):
        return loop.train(
            job.model, job.stream, folder.path, job.options, resume=resume, on_step=lambda *_: on_step(),
            origin=job.origin,
        )  # fmt: skip
