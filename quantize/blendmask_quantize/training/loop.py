"""The training loop: averaged weights, atomic checkpoints, exact resume, one process or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from blendmask_edge.errors import BlendMaskError, ConfigError
from blendmask_quantize.checkpoints.checkpoint import TrainingRun, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.memory_format import set_training_layout
from blendmask_quantize.runs.run_folder import MODEL_FILE
from blendmask_quantize.training.clock import Clock
from blendmask_quantize.training.curves import PLOT_FILE, draw_curves
from blendmask_quantize.training.depthwise import quick_depthwise
from blendmask_quantize.training.loading import batches
from blendmask_quantize.training.log import (
    LOG_FILE,
    TENSORBOARD_FOLDER,
    CsvLog,
    TensorBoardLog,
)
from blendmask_quantize.training.losses import attention_of, training_losses
from blendmask_quantize.training.options import TrainOptions, resolved
from blendmask_quantize.training.processes import (
    average_gradients,
    first_process,
    mean_over_processes,
    open_fabric,
    synchronized,
)
from blendmask_quantize.training.resume import RESUME_FILE, RunState
from blendmask_quantize.training.run_settings import FREE
from blendmask_quantize.training.samples import Batch
from blendmask_quantize.training.schedule import Group, make_optimizer, parameter_groups, set_rate
from blendmask_quantize.training.start import NEW, Origin
from blendmask_quantize.training.stream import AugmentedStream
from blendmask_quantize.training.targets import InstanceTargets, assign

OnStep = Callable[[int, dict[str, float]], None]
LossesOf = Callable[[nn.Module, Batch, int], dict[str, Tensor]]


class HasTopLayer(Protocol):
    """A network's configuration and its top layer."""

    config: ModelConfig
    top_layer: nn.Conv2d | None


@dataclass(frozen=True)
class Trained:
    """The result of `optimize`.

    Attributes:
        average: the averaged weights, a copy of the model.
        seconds: of training, stops left out.
    """

    average: Any
    seconds: float


class DivergedError(BlendMaskError):
    """Loss or gradient is no longer a number. Lower the learning rate and resume from the last checkpoint."""


def train(
    model: BlendMask, stream: AugmentedStream, output: Path, options: TrainOptions, *, resume: bool = False,
    on_step: OnStep | None = None, origin: Origin = NEW,
) -> Path:  # fmt: skip
    """Train `model` and write the averaged weights, with a record of how, and a plot of the losses.

    Args:
        model: trained in place; its frozen stages stay as they are.
        stream: the augmented images of the whole run.
        output: folder for the log, the checkpoint to resume from and the final model; made if missing. Several nodes
            need to see the same one.
        resume: go on from the folder's checkpoint where there is one.
        on_step: called in the first process after every step with its number and losses.
        origin: where `model` comes from.

    Returns:
        path of the final model, which the first process writes.

    Raises:
        DivergedError: loss or gradient is not finite; the last checkpoint stays.
        CheckpointError: the folder holds a checkpoint of another run, or one to resume from without `resume`.
        DependencyError: TensorBoard is asked for and not installed.
    """
    freeze(model.train(), options.frozen_stages, norms=options.frozen_norms)

    def losses_of(forward: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        return step_losses(forward, model, batch, options, step)

    set_training_layout(model)
    groups = parameter_groups(model, options)
    with quick_depthwise(model):
        trained = optimize(model, groups, losses_of, stream, output, options, resume=resume, on_step=on_step)
    if first_process():
        run = training_record(options, stream, trained.seconds, origin)
        save_checkpoint(output / MODEL_FILE, trained.average, stream.labels, training=(*origin.earlier, run))
        draw_curves(output / LOG_FILE, output / PLOT_FILE)
    return output / MODEL_FILE


def training_record(
    options: TrainOptions, stream: AugmentedStream, seconds: float, origin: Origin = NEW
) -> TrainingRun:  # fmt: skip
    """Return what a checkpoint remembers of a run over `stream` that took `seconds`."""
    chosen = {k: v for k, v in msgspec.to_builtins(resolved(options)).items() if k not in FREE}
    return TrainingRun(
        options.iterations, options.augmented_images, stream.num_images, round(seconds / 3600, 2), chosen,
        origin.weights, origin.initialized,
    )  # fmt: skip


def optimize(
    model: nn.Module, groups: Sequence[Group], losses_of: LossesOf, stream: AugmentedStream, output: Path,
    options: TrainOptions, *, identity: str = "", resume: bool = False, on_step: OnStep | None = None,
) -> Trained:  # fmt: skip
    """Minimize losses over a stream of augmented images; log every step, and write what to resume from.

    Args:
        model: trained in place, in the mode it is in.
        groups: what the optimizer trains: `params`, `weight_decay`, and `factor` of the learning rate.
        losses_of: losses by name from the wrapped model, a batch and the number of the step; their sum is minimized.
        stream: the augmented images of the whole run.
        output: folder for the log and the checkpoint to resume from; made if missing.
        options: the schedule.
        identity: what a checkpoint must have been written with to be resumed from.
        resume: go on from the folder's checkpoint where there is one.
        on_step: called in the first process after every step with its number and losses.

    Returns:
        The averaged weights, and how long it took.

    Raises:
        ConfigError: no weight is trained.
        DivergedError: loss or gradient is not finite; the last checkpoint stays.
        CheckpointError: the folder holds a checkpoint of another run, or one to resume from without `resume`.
    """
    if not any(group["params"] and group["factor"] for group in groups):
        raise ConfigError("no weight is trained: all are frozen, or have a learning rate of 0")
    output.mkdir(parents=True, exist_ok=True)
    fabric = open_fabric(options)
    wrapped, optimizer = fabric.setup(model, make_optimizer(groups, options))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(options.ema_decay), use_buffers=True)
    run = RunState(output / RESUME_FILE, identity, model, average, optimizer, fabric.strategy.precision)
    restored = run.restore(resume)
    start, clock = restored.iteration, Clock(restored.seconds)
    logs = _open_logs(output, start, clock, options)
    stepper = _Stepper(fabric, wrapped, optimizer, losses_of, options)
    with synchronized(model):
        for step, batch in batches(stream, options, start, fabric.global_rank):
            try:
                numbers = stepper.step(step, batch)
            except _NotFinite as error:
                raise _diverged(error, step, output, stream, options) from None
            except torch.OutOfMemoryError as error:
                raise _too_large(options) from error
            average.update_parameters(model)
            for log in logs:
                log.write(step, numbers)
            if on_step is not None and first_process():
                on_step(step, numbers)
            if first_process() and ((step + 1) % options.save_every == 0 or step + 1 == options.iterations):
                run.save(step + 1, clock.seconds)
    return Trained(average.module, clock.seconds)


class _NotFinite(Exception):
    """A loss or a gradient is not a number."""


@dataclass(frozen=True)
class _Stepper:
    """The inputs of a step."""

    fabric: Fabric
    wrapped: nn.Module
    optimizer: Any
    losses_of: LossesOf
    options: TrainOptions

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """Change the weights by a batch, and return its losses and their total, as means over the processes."""
        set_rate(self.optimizer, step, self.options)
        losses = self.losses_of(self.wrapped, batch.to(self.fabric.device), step)
        values = mean_over_processes(torch.stack([value.detach().float() for value in losses.values()]))
        numbers = dict(zip([*losses, "total"], [*values.tolist(), float(values.sum())], strict=True))
        _check_finite("loss", numbers["total"])
        self.optimizer.zero_grad()
        self.fabric.backward(sum(losses.values(), torch.zeros((), device=self.fabric.device)))
        average_gradients([p for group in self.optimizer.param_groups for p in group["params"]])
        most = self.options.clip or math.inf
        norm = self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=most, error_if_nonfinite=False)
        if self.fabric.strategy.precision.precision != "16-mixed":  # there the loss's scale is lowered instead
            _check_finite("norm of the gradient", norm)
        self.optimizer.step()
        return numbers


def _check_finite(what: str, value: Tensor | float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise _NotFinite(f"the {what} is {float(value)}")


def _diverged(
    error: _NotFinite, step: int, output: Path, stream: AugmentedStream, options: TrainOptions
) -> DivergedError:
    first, count = step * options.batch * options.processes, options.batch * options.processes
    names = ", ".join(sorted({stream.name(item) for item in range(first, first + count)}))
    return DivergedError(
        f"{error} at iteration {step}: lower --learning-rate and go on with --resume from the checkpoint in {output}; "
        f"the images of the step were {names}"
    )


def _too_large(options: TrainOptions) -> ConfigError:
    height, width = options.augmentation.crop
    return ConfigError(
        f"a batch of {options.batch} images of {height}x{width} does not fit into the memory of the device: give a "
        "smaller --batch or --crop"
    )


def _open_logs(output: Path, start: int, clock: Clock, options: TrainOptions) -> list[CsvLog | TensorBoardLog]:
    if not first_process():
        return []
    board = [TensorBoardLog(output / TENSORBOARD_FOLDER, start)] if options.tensorboard else []
    return [CsvLog(output / LOG_FILE, start, clock), *board]


def step_losses(
    forward: nn.Module, model: BlendMask, batch: Batch, options: TrainOptions, step: int
) -> dict[str, Tensor]:
    """Return the losses of one batch, by name."""
    return supervised_losses(forward(model.normalize(batch.pixels)), model, batch, options, step)


def supervised_losses(
    predictions: Predictions, model: HasTopLayer, batch: Batch, options: TrainOptions, step: int
) -> dict[str, Tensor]:
    """Return the losses of predictions, by name; the semantic loss only where they hold semantic logits.

    Args:
        predictions: of the whole batch.
        model: gives configuration and top layer.
        batch: augmented images with their instances.
        options: weights of the losses, and the seed of what they draw.
        step: its number, which with the seed fixes the draw.
    """
    config = model.config
    sizes = [(logits.shape[-2], logits.shape[-1]) for logits in predictions.logits]
    targets = assign(
        batch.boxes, batch.classes, sizes, config.head.strides, config.head.size_bounds, config.num_classes,
        config.head.radius,
    )  # fmt: skip
    instances = InstanceTargets.from_images(batch.boxes, batch.mask_targets)
    semantic = batch.semantic if predictions.semantic is not None else None
    attention = attention_of(model.top_layer, predictions.towers, targets)
    generator = torch.Generator().manual_seed(options.seed + step)
    return training_losses(
        predictions, targets, instances, semantic, attention, options.losses, reduce_mean=mean_over_processes,
        generator=generator,
    )  # fmt: skip


def freeze(model: BlendMask, stages: int | None = None, *, norms: bool = False) -> None:
    """Keep weights and statistics of the backbone's first stages; call it after `train()`.

    Args:
        model: in training mode.
        stages: how many, the stem counted first; None takes the configuration's number.
        norms: keep statistics and weights of all the backbone's normalizations as well.

    Raises:
        ConfigError: the backbone has fewer stages.
    """
    backbone = model.backbone.bottom_up
    known = backbone.stages()
    if stages is not None and stages > len(known):
        raise ConfigError(f"frozen_stages is {stages}: the backbone has {len(known)}, give at most as many")
    for stage in known[: model.config.backbone.frozen_stages if stages is None else stages]:
        stage.requires_grad_(False).eval()
    if norms:
        for module in backbone.modules():
            if isinstance(module, _BatchNorm):
                module.requires_grad_(False).eval()
