"""Recipe `qat`: train a calibrated network with its quantizers in place, and keep it only if that helped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor, fx, nn

from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.sparsity import keep_zeros
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.qat.data import QatData
from blendmask_quantize.quantization.qat.decision import Decision, MatchesOf, decide
from blendmask_quantize.quantization.qat.fake_quantizers import FakeQuantNetwork, stage_names
from blendmask_quantize.quantization.qat.options import QatOptions
from blendmask_quantize.quantization.qat.teacher import QatTeacher
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.runs.network_digest import network_digest
from blendmask_quantize.training.loop import LossesOf, OnStep, optimize, supervised_losses
from blendmask_quantize.training.samples import Batch
from blendmask_quantize.training.schedule import Group
from blendmask_quantize.training.stream import AugmentedStream

Criterion = Callable[[Calibrated], MatchesOf]
"""From weights and ranges to what COCO's matching says of each variant on the held-out images."""


@dataclass(frozen=True)
class QatResult:
    """The result of training with quantization.

    Attributes:
        calibrated: the weights and ranges that are kept.
        decision: between training and PTQ.
        ground_truth: source of the instances of the held-out images.
        trained_on, held_out: numbers of images.
    """

    calibrated: Calibrated
    decision: Decision
    ground_truth: str
    trained_on: int
    held_out: int

    @property
    def kept(self) -> str:
        """Return "qat", or "ptq" where training did not help."""
        return self.decision.kept

    def __str__(self) -> str:
        """Which network is kept and why, in a sentence."""
        return f"{self.decision}, on {self.held_out} held-out images, ground truth by {self.ground_truth}"

    def record(self) -> dict[str, Any]:
        """The entry of the manifest, in JSON's types."""
        about = {"ground_truth": self.ground_truth, "trained_on": self.trained_on, "held_out": self.held_out}
        return self.decision.record() | about


def run_qat(
    checkpoint: Checkpoint, start: Calibrated, qat_data: QatData[Any], criterion: Criterion,
    options: QatOptions, work: Path, *, resume: bool = False, on_step: OnStep | None = None,
    teacher: Checkpoint | None = None,
) -> QatResult:  # fmt: skip
    """Train from the result of PTQ, with a float network as teacher, and keep the better of both.

    The trained network is kept only where its mask AP, mean over the variants, is better than chance explains.

    Args:
        checkpoint: gives configuration and top layer, which is not trained.
        start: calibrated and maybe refined weights and ranges.
        qat_data: images to train on.
        criterion: matches the instances of each variant on held-out images.
        options: how to train.
        work: folder for the log and the checkpoint to resume from; made if missing.
        resume: go on from the folder's checkpoint where there is one.
        on_step: called after every step with its number and losses.
        teacher: network to learn from, such as that before pruning; None takes the float one.

    Raises:
        DivergedError: a loss is not finite.
        CheckpointError: the folder holds a checkpoint of another run, or one to resume from without `resume`.
    """
    schedule = options.training
    stages = checkpoint.config.backbone.frozen_stages if options.frozen_stages is None else options.frozen_stages
    float_network = trace_network(checkpoint.model)
    network = FakeQuantNetwork(start, options.variants, stage_names(checkpoint.model, stages))
    keep_zeros(network.weights)
    stream = AugmentedStream([qat_data.training], schedule.iterations * schedule.batch, schedule.seed)
    losses_of = _losses(QatTeacher(checkpoint.model, float_network, teacher), qat_data.labeled, options)
    trained = optimize(
        network, _groups(network, options), losses_of, stream, work, schedule,
        identity=_identity(float_network, start, qat_data, options, teacher), resume=resume, on_step=on_step,
    )  # fmt: skip
    after = trained.average.calibrated()
    held_out = len(qat_data.held_out.ids)
    decision = decide(criterion(start), criterion(after), held_out, schedule.seed)
    chosen = after if decision.kept == "qat" else start
    return QatResult(chosen, decision, qat_data.ground_truth, len(qat_data.names), held_out)


def _losses(teacher: QatTeacher, labeled: bool, options: QatOptions) -> LossesOf:
    def losses_of(forward: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        student = forward(teacher.normalize(batch.pixels), options.variants[step % len(options.variants)])
        losses = teacher.losses(student, batch.pixels, options.distill)
        if labeled:
            supervised = supervised_losses(student, teacher.own, batch, options.training, step)
            losses |= {name: options.label_weight * loss for name, loss in supervised.items()}
        return losses

    return losses_of


def _groups(network: FakeQuantNetwork, options: QatOptions) -> list[Group]:
    weights = [p for p in network.weights.parameters() if p.requires_grad]
    ranges = [p for p in network.log_growth.parameters() if p.requires_grad]
    decay = options.training.weight_decay
    return [
        {"params": [p for p in weights if p.ndim > 1], "factor": 1.0, "weight_decay": decay},
        {"params": [p for p in weights if p.ndim <= 1], "factor": 1.0, "weight_decay": 0.0},
        {"params": ranges, "factor": options.range_rate, "weight_decay": 0.0},
    ]


def _identity(
    float_network: fx.GraphModule, start: Calibrated, qat_data: QatData[Any], options: QatOptions,
    teacher: Checkpoint | None,
) -> str:  # fmt: skip
    """Hash of what a run depends on.

    Without the learning rate, which may be lowered to go on, and without the ranges and refined weights, whose last
    digits depend on the number of threads.
    """
    options = replace(options, training=replace(options.training, learning_rate=0.0))
    parts = [network_digest(float_network), sorted(start.ranges), qat_data.names, qat_data.labeled, options]
    parts += [] if teacher is None else [network_digest(teacher.model)]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
