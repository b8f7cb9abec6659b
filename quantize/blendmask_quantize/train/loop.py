"""The training loop: Lightning Fabric, averaged weights, atomic checkpoints, exact resume."""

from __future__ import annotations

import contextlib
import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import cv2
import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Subset

from blendmask_edge.bundle.atomic import replacing
from blendmask_edge.errors import BlendMaskError, CheckpointError
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.checkpoint import save_checkpoint
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.train.data import Batch, Sample, ViewStream, collate
from blendmask_quantize.train.depthwise import quick_depthwise
from blendmask_quantize.train.losses import attention_of, training_losses
from blendmask_quantize.train.options import TrainOptions
from blendmask_quantize.train.targets import ObjectTargets, assign

RESUME_FILE = "last.pt"
MODEL_FILE = "model.safetensors"
LOG_FILE = "log.csv"

OnStep = Callable[[int, dict[str, float]], None]
Group = dict[str, Any]
LossesOf = Callable[[nn.Module, Batch, int], dict[str, Tensor]]


class Headed(Protocol):
    """What knows how the network is built and holds its top layer."""

    config: ModelConfig
    top_layer: nn.Conv2d | None


class DivergedError(BlendMaskError):
    """Loss or gradient is no number any more. Lower the learning rate and resume from the last checkpoint."""


def train(
    model: BlendMask, stream: ViewStream, output: Path, options: TrainOptions, *, resume: bool = False,
    on_step: OnStep | None = None,
) -> Path:  # fmt: skip
    """Train `model` and write the averaged weights.

    Args:
        model: trained in place; its frozen stages stay as they are.
        stream: views of the whole run, `iterations * batch` of them.
        output: folder for the log, the checkpoint to resume from and the final model; made if missing.
        resume: go on from the folder's checkpoint where there is one.
        on_step: called after every step with its number and losses.

    Returns:
        path of the final model.

    Raises:
        DivergedError: loss or gradient is not finite; the last checkpoint stays.
        CheckpointError: the folder holds a checkpoint of another run, or one to resume from without `resume`.
    """
    freeze(model.train(), options.frozen_stages, norms=options.frozen_norms)

    def losses_of(forward: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        return step_losses(forward, model, batch, options, step)

    model.to(memory_format=torch.channels_last)
    with quick_depthwise(model):
        average = optimise(
            model, _groups(model, options), losses_of, stream, output, options, resume=resume, on_step=on_step
        )  # fmt: skip
    save_checkpoint(output / MODEL_FILE, average, stream.labels)
    return output / MODEL_FILE


def optimise(
    model: nn.Module, groups: Sequence[Group], losses_of: LossesOf, stream: Dataset[Sample], output: Path,
    options: TrainOptions, *, identity: str = "", resume: bool = False, on_step: OnStep | None = None,
) -> Any:  # fmt: skip
    """Minimise losses over a stream of views; log every step, and write what to resume from.

    Args:
        model: trained in place, in the mode it is in.
        groups: what AdamW trains: `params`, `weight_decay`, and `factor` of the learning rate.
        losses_of: losses by name from the wrapped model, a batch and the number of the step; their sum is minimised.
        stream: `iterations * batch` views.
        output: folder for the log and the checkpoint to resume from; made if missing.
        options: the schedule.
        identity: what a checkpoint must have been written with to be resumed from.
        resume: go on from the folder's checkpoint where there is one.
        on_step: called after every step with its number and losses.

    Returns:
        the averaged weights, a copy of `model`.

    Raises:
        DivergedError: loss or gradient is not finite; the last checkpoint stays.
        CheckpointError: the folder holds a checkpoint of another run, or one to resume from without `resume`.
    """
    output.mkdir(parents=True, exist_ok=True)
    fabric = Fabric(accelerator="auto", devices=1, precision=options.precision)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate)
    wrapped, optimizer = fabric.setup(model, optimizer)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(options.ema), use_buffers=True)
    run = _Run(output / RESUME_FILE, identity, model, average, optimizer)
    start = run.restore(resume)
    log = _Log(output / LOG_FILE, start)
    for step, batch in _batches(stream, options, start):
        _set_rate(optimizer, options, step)
        losses = losses_of(wrapped, batch.to(fabric.device), step)
        total = sum(losses.values(), torch.zeros(()))
        _check_finite("loss", total, step, output)
        optimizer.zero_grad()
        fabric.backward(total)
        norm = fabric.clip_gradients(wrapped, optimizer, max_norm=options.clip, error_if_nonfinite=False)
        _check_finite("norm of the gradient", norm, step, output)
        optimizer.step()
        average.update_parameters(model)
        numbers = {name: value.item() for name, value in losses.items()} | {"total": total.item()}
        log.write(step, numbers)
        if on_step is not None:
            on_step(step, numbers)
        if (step + 1) % options.save_every == 0 or step + 1 == options.iterations:
            run.save(step + 1)
    return average.module


def check_unfinished(output: Path, resume: bool) -> None:
    """See that no run in a folder is overwritten unasked.

    Raises:
        CheckpointError: the folder holds a checkpoint to resume from, and `resume` is not set.
    """
    if (output / RESUME_FILE).exists() and not resume:
        raise CheckpointError(f"{output} holds an unfinished run: go on with --resume, or name another --output")


def _check_finite(what: str, value: Tensor | None, step: int, output: Path) -> None:
    if value is not None and not math.isfinite(value.item()):
        raise DivergedError(
            f"the {what} is {value.item()} at iteration {step}: lower --learning-rate and go on with --resume from "
            f"the checkpoint in {output}"
        )


def remove_run(output: Path) -> None:
    """Remove a run's log and checkpoint, and its folder if nothing else lies there."""
    for name in (RESUME_FILE, LOG_FILE):
        (output / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        output.rmdir()


def step_losses(
    forward: nn.Module, model: BlendMask, batch: Batch, options: TrainOptions, step: int
) -> dict[str, Tensor]:
    """Losses by name of one batch."""
    return supervised_losses(forward(model.normalise(batch.pixels)), model, batch, options, step)


def supervised_losses(
    predictions: Predictions, model: Headed, batch: Batch, options: TrainOptions, step: int
) -> dict[str, Tensor]:
    """Losses by name of predictions for a batch; the semantic loss only where they hold semantic logits.

    Args:
        predictions: of the whole batch.
        model: gives configuration and top layer.
        batch: views with their objects.
        options: weights of the losses, and the seed of what they draw.
        step: its number, which with the seed fixes the draw.
    """
    config = model.config
    sizes = [(logits.shape[-2], logits.shape[-1]) for logits in predictions.logits]
    targets = assign(
        batch.boxes, batch.classes, sizes, config.head.strides, config.head.size_bounds, config.classes,
        config.head.radius,
    )  # fmt: skip
    objects = ObjectTargets.from_images(batch.boxes, batch.mask_targets)
    semantic = batch.semantic if predictions.semantic is not None else None
    attention = attention_of(model.top_layer, predictions.towers, targets)
    generator = torch.Generator().manual_seed(options.seed + step)
    return training_losses(
        predictions, targets, objects, semantic, attention, options.losses, reduce_mean=mean_over_processes,
        generator=generator,
    )  # fmt: skip


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over the processes that train together; the value itself in one process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    mean = value.detach().clone()
    distributed.all_reduce(mean)
    return mean / distributed.get_world_size()


def freeze(model: BlendMask, stages: int | None = None, *, norms: bool = False) -> None:
    """Keep weights and statistics of the trunk's first stages; call it after `train()`.

    Args:
        model: in training mode.
        stages: how many, the stem counted first; None takes the configuration's number.
        norms: keep statistics and weights of all the trunk's normalisations as well.
    """
    trunk = model.backbone.bottom_up
    for stage in trunk.stages()[: model.config.trunk.frozen_stages if stages is None else stages]:
        stage.requires_grad_(False).eval()
    if norms:
        for module in trunk.modules():
            if isinstance(module, _BatchNorm):
                module.requires_grad_(False).eval()


def _groups(model: BlendMask, options: TrainOptions) -> list[Group]:
    parts: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parts.setdefault(("bottom_up" in name, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "factor": options.trunk_rate if in_trunk else 1.0,
            "weight_decay": options.weight_decay if decays else 0.0,
        }
        for (in_trunk, decays), parameters in parts.items()
    ]


def _set_rate(optimizer: torch.optim.Optimizer, options: TrainOptions, step: int) -> None:
    rise = min(1.0, (step + 1) / max(options.warmup, 1))
    fall = 0.5 * (1 + math.cos(math.pi * step / options.iterations))
    for group in optimizer.param_groups:
        group["lr"] = options.learning_rate * group["factor"] * rise * fall


def _batches(stream: Dataset[Sample], options: TrainOptions, start: int) -> Iterator[tuple[int, Batch]]:
    rest = Subset(stream, range(start * options.batch, options.iterations * options.batch))
    loader = DataLoader(
        rest, batch_size=options.batch, num_workers=options.workers, collate_fn=collate,
        worker_init_fn=_single_threaded,
    )  # fmt: skip
    yield from enumerate(loader, start)


def _single_threaded(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


@dataclass(frozen=True)
class _Run:
    """What is written to go on from, and what is filled when going on."""

    path: Path
    identity: str
    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer

    def save(self, iteration: int) -> None:
        state = {
            "iteration": iteration,
            "identity": self.identity,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with replacing(self.path) as stream:
            torch.save(state, stream)

    def restore(self, resume: bool) -> int:
        check_unfinished(self.path.parent, resume)
        if not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state.get("identity", "") != self.identity:
                raise self._foreign()
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            return int(state["iteration"])
        except (RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
            raise self._foreign() from error

    def _foreign(self) -> CheckpointError:
        return CheckpointError(f"{self.path} belongs to another run or is damaged: remove it, or name another --output")


class _Log:
    """CSV of the losses, a row a step; rows past the point of resuming are dropped."""

    def __init__(self, path: Path, start: int) -> None:
        self.path, self.began = path, time.monotonic()
        kept: list[Sequence[str]] = []
        if start and path.exists():
            with path.open(newline="") as file:
                kept = [row for row in csv.reader(file) if not row[0].isdigit() or int(row[0]) < start]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(kept)
        self.empty = not kept

    def write(self, step: int, numbers: dict[str, float]) -> None:
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if self.empty:
                writer.writerow(["iteration", "seconds", *numbers])
                self.empty = False
            seconds = f"{time.monotonic() - self.began:.1f}"
            writer.writerow([step, seconds, *(f"{value:.5f}" for value in numbers.values())])
