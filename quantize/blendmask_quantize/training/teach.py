"""A trained network teaches one of another architecture, so that it need not start from random weights.

The student imitates the teacher everywhere in the image, and so needs no labels. Its features are compared through 1x1
adapters that are thrown away at the end, which leaves it free to have other widths (Romero et al., "FitNets: Hints for
Thin Deep Nets", ICLR 2015); its detections and blended masks are compared as in `training/distillation.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from blendmask_calibration.dataset import list_images
from blendmask_edge.errors import CalibrationError, ConfigError
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.pyramid import Features
from blendmask_quantize.runs.run_folder import MODEL_FILE
from blendmask_quantize.training.augment import Augmentation
from blendmask_quantize.training.depthwise import quick_depthwise
from blendmask_quantize.training.distillation import (
    Lesson,
    blended_masks,
    detection_distances,
    lesson_of,
    mask_distance,
    relative_distance,
)
from blendmask_quantize.training.images import PlainImages
from blendmask_quantize.training.log import LOG_FILE, PLOT_FILE, draw_curves
from blendmask_quantize.training.loop import LossesOf, OnStep, freeze, optimize, training_record
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.processes import first_process
from blendmask_quantize.training.samples import Batch
from blendmask_quantize.training.schedule import parameter_groups
from blendmask_quantize.training.stream import AugmentedStream


@dataclass(frozen=True)
class TeachWeights:
    """Factor of each loss.

    Attributes:
        features: squared distance of each pyramid level and of the backbone's features of stride 4, relative to the
            variance of the teacher's; the mean over them.
        classes: divergence of the class probabilities at every location, over the number of the teacher's positives.
        centerness: divergence of the centerness at the teacher's positives.
        boxes: 1 - GIoU of the boxes there.
        masks: divergence of the blended masks in the teacher's detections.
    """

    features: float = 2.0
    classes: float = 1.0
    centerness: float = 1.0
    boxes: float = 1.0
    masks: float = 1.0


@dataclass(frozen=True)
class TeachOptions:
    """How a network is taught.

    Attributes:
        training: schedule and augmentation; their weights of losses against labels have no effect.
        weights: factors of the losses.
    """

    training: TrainOptions = field(default_factory=lambda: TrainOptions(iterations=2000, backbone_rate=1.0))
    weights: TeachWeights = field(default_factory=TeachWeights)


class Pupil(nn.Module):
    """The student with an adapter for each map that is compared, from its channels to the teacher's.

    Args:
        student: the network.
        teacher: whose widths the adapters reach.
    """

    def __init__(self, student: BlendMask, teacher: BlendMask) -> None:
        super().__init__()
        self.student = student
        pairs = zip(_map_widths(student), _map_widths(teacher), strict=True)
        self.adapters = nn.ModuleList(nn.Conv2d(own, wanted, 1) for own, wanted in pairs)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Predictions]:
        """Adapted maps, and predictions, of a normalized batch (N, 3, H, W)."""
        features = self.student.backbone(x)
        adapted = [adapter(map_) for adapter, map_ in zip(self.adapters, _maps(features), strict=True)]
        return adapted, self.student.predictions(features)


def teach(
    student: BlendMask, teacher: Checkpoint, stream: AugmentedStream, output: Path, options: TeachOptions, *,
    resume: bool = False, on_step: OnStep | None = None,
) -> Path:  # fmt: skip
    """Train `student` to say what the teacher says, and write its averaged weights, with a record of how.

    Args:
        student: trained in place.
        teacher: a trained network with the same classes and pyramid levels.
        stream: the augmented images of the whole run, with or without instances.
        output: folder for the log, the checkpoint to resume from and the final model; made if missing.
        options: schedule and weights.
        resume: go on from the folder's checkpoint where there is one.
        on_step: called in the first process after every step with its number and losses.

    Returns:
        path of the final model, which the first process writes.

    Raises:
        ConfigError: the student has other classes or pyramid levels than the teacher.
        DivergedError: loss or gradient is not finite; the last checkpoint stays.
        CheckpointError: the folder holds a checkpoint of another run, or one to resume from without `resume`.
    """
    check_teacher(student.config, teacher)
    freeze(student.train(), options.training.frozen_stages, norms=options.training.frozen_norms)
    pupil = Pupil(student, teacher.model).to(memory_format=torch.channels_last)
    groups = parameter_groups(pupil, options.training)
    losses_of = _losses(student, teacher.model, options.weights)
    with quick_depthwise(student):
        trained = optimize(pupil, groups, losses_of, stream, output, options.training, resume=resume, on_step=on_step)
    if first_process():
        run = training_record(options.training, stream, trained.seconds)
        run.options.update(teacher=teacher.path.name, teach=msgspec.to_builtins(options.weights))
        save_checkpoint(output / MODEL_FILE, trained.average.student, teacher.labels, training=(run,))
        draw_curves(output / LOG_FILE, output / PLOT_FILE)
    return output / MODEL_FILE


def check_teacher(student: ModelConfig, teacher: Checkpoint) -> None:
    """See that every output of a student has its counterpart.

    Args:
        student: the network that is taught.
        teacher: the one that teaches.

    Raises:
        ConfigError: they have other classes, pyramid levels or sizes of a mask.
    """
    of_teacher = teacher.config
    for what, own, wanted in (
        ("classes", student.num_classes, of_teacher.num_classes),
        ("strides", student.head.strides, of_teacher.head.strides),
        ("a mask resolution of", student.resolution, of_teacher.resolution),
    ):
        if own != wanted:
            raise ConfigError(
                f"{teacher.path} cannot teach {student.name}: it has {what} {wanted}, the student {own}; name a "
                "configuration with the same"
            )


def unlabeled(
    folders: Sequence[Path], teacher: Checkpoint, config: ModelConfig, options: Augmentation
) -> list[PlainImages]:  # fmt: skip
    """Return all images in folders, without labels.

    Args:
        folders: of images.
        teacher: gives the classes.
        config: of the student.
        options: how images vary.

    Raises:
        CalibrationError: a folder is missing, or holds no image.
    """
    found = [(folder, list_images(folder)) for folder in folders]
    for folder, paths in found:
        if not paths:
            raise CalibrationError(f"{folder} holds no image: give a folder of images to learn from")
    return [PlainImages(paths, teacher.labels, config, options) for _, paths in found]


def _losses(student: BlendMask, teacher: BlendMask, weights: TeachWeights) -> LossesOf:
    """The distances of the student from the teacher, by name."""
    teacher = copy.deepcopy(teacher).eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def losses_of(forward: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:  # noqa: ARG001
        features, lesson = _lesson(teacher.to(batch.pixels.device), batch)
        adapted, predictions = forward(student.normalize(batch.pixels))
        masks = blended_masks(predictions, lesson.instances, student.top_layer, student.config)
        found = {
            "features": _mean([relative_distance(*pair) for pair in zip(adapted, _maps(features), strict=True)]),
            **detection_distances(predictions, lesson),
            "masks": mask_distance(masks, lesson),
        }
        return {f"teach_{f.name}": getattr(weights, f.name) * found[f.name] for f in fields(weights)}

    return losses_of


@torch.no_grad()
def _lesson(teacher: BlendMask, batch: Batch) -> tuple[Features, Lesson]:
    """The teacher's features of a batch, and what it says of it."""
    features = teacher.backbone(teacher.normalize(batch.pixels))
    return features, lesson_of(teacher.predictions(features), teacher.top_layer, teacher.config)


def _maps(features: Features) -> tuple[Tensor, ...]:
    return (features.fine, *features.levels)


def _map_widths(model: BlendMask) -> list[int]:
    """Channels of the compared maps, also of a pruned network."""
    side = max(model.config.input.divisor, *model.config.head.strides)
    backbone = copy.deepcopy(model.backbone).to("meta").eval()
    return [map_.shape[1] for map_ in _maps(backbone(torch.empty((1, 3, side, side), device="meta")))]


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
