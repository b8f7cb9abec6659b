"""Distill a trained network into one of another architecture, so that it need not start from random weights.

The student imitates the teacher everywhere in the image, and so needs no labels; where there are some, it can learn
from both. Its features are compared through 1x1 adapters that are thrown away at the end, which leaves it free to have
other widths (Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015); its detections and blended masks are
compared as in `training/distillation.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from blendmask_quantize.checkpoints.checkpoint import Checkpoint, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.memory_format import set_training_layout
from blendmask_quantize.runs.run_folder import MODEL_FILE
from blendmask_quantize.training.curves import PLOT_FILE, draw_curves
from blendmask_quantize.training.depthwise import quick_depthwise
from blendmask_quantize.training.distill_weights import StudentWeights
from blendmask_quantize.training.log import LOG_FILE
from blendmask_quantize.training.loop import LossesOf, OnStep, freeze, optimize, supervised_losses, training_record
from blendmask_quantize.training.options import TrainOptions
from blendmask_quantize.training.processes import first_process
from blendmask_quantize.training.samples import Batch
from blendmask_quantize.training.schedule import parameter_groups
from blendmask_quantize.training.start import NEW, Origin
from blendmask_quantize.training.stream import AugmentedStream
from blendmask_quantize.training.student import (
    StudentNetwork,
    TeacherNetwork,
    check_teacher,
    student_losses,
)


def distill(
    student: BlendMask, teacher: Checkpoint, stream: AugmentedStream, output: Path, options: TrainOptions,
    weights: StudentWeights, *, labeled: bool = False, origin: Origin = NEW, resume: bool = False,
    on_step: OnStep | None = None,
) -> Path:  # fmt: skip
    """Train `student` to agree with the teacher, and write its averaged weights, with a record of how.

    Args:
        student: trained in place.
        teacher: a trained network with the same classes and pyramid levels.
        stream: the augmented images of the whole run.
        output: folder for the log, the checkpoint to resume from and the final model; made if missing.
        options: the schedule.
        weights: factors of the losses against the teacher.
        labeled: also learn from the instances of the images, by the losses of ordinary training.
        origin: where `student` comes from.
        resume: go on from the folder's checkpoint where there is one.
        on_step: called in the first process after every step with its number and losses.

    Returns:
        Path of the final model, which the first process writes.

    Raises:
        ConfigError: the student has other classes or pyramid levels than the teacher.
        DivergedError: loss or gradient is not finite; the last checkpoint stays.
        CheckpointError: the folder holds a checkpoint of another run, or one to resume from without `resume`.
    """
    check_teacher(student.config, teacher)
    freeze(student.train(), options.frozen_stages, norms=options.frozen_norms)
    torch.manual_seed(options.seed)
    network = set_training_layout(StudentNetwork(student, teacher.model, semantic=labeled))
    losses_of = _losses(student, TeacherNetwork(teacher.model), options, weights, labeled)
    groups = parameter_groups(network, options)
    with quick_depthwise(student):
        trained = optimize(network, groups, losses_of, stream, output, options, resume=resume, on_step=on_step)
    if first_process():
        run = training_record(options, stream, trained.seconds, origin)
        facts = {"teacher": teacher.path.name, "distill": msgspec.to_builtins(weights), "labeled": labeled}
        run = replace(run, options=run.options | facts)
        save_checkpoint(
            output / MODEL_FILE, trained.average.student, teacher.labels, training=(*origin.earlier, run)
        )  # fmt: skip
        draw_curves(output / LOG_FILE, output / PLOT_FILE)
    return output / MODEL_FILE


def _losses(
    student: BlendMask, teacher: TeacherNetwork, options: TrainOptions, weights: StudentWeights, labeled: bool
) -> LossesOf:
    """Return the losses of a step, by name."""

    def losses_of(forward: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        adapted, predictions = forward(student.normalize(batch.pixels))
        losses = supervised_losses(predictions, student, batch, options, step) if labeled else {}
        return losses | student_losses(adapted, predictions, student, teacher(batch), weights)

    return losses_of
