"""One way from a checkpoint and labelled pictures to a pruned, fine-tuned checkpoint."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from blendmask_edge.errors import AnnotationError, CheckpointError, OutputError
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from blendmask_quantize.model.labels import default_labels
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.shrink.budget import TOLERANCE
from blendmask_quantize.shrink.prune import Loss, prune_network
from blendmask_quantize.train.data import CocoPictures, ViewStream, collate
from blendmask_quantize.train.loop import LOG_FILE, RESUME_FILE, step_losses, train
from blendmask_quantize.train.options import TrainOptions

Stage = Callable[[str, int], Callable[[], None]]
"""Announces a stage with its number of steps; returns what to call after each step."""

START_FILE = "pruned.safetensors"
"""The pruned network before fine-tuning, from which a run that was cut off goes on."""


@dataclass(frozen=True)
class PruneOptions:
    """What `prune` does.

    Attributes:
        ratio: share of the multiply-accumulates to keep.
        training: how the thinner network is fine-tuned; no iterations leave it as it is.
        batches: of labelled views that the importance of channels is measured on.
    """

    ratio: float
    training: TrainOptions = field(default_factory=lambda: fine_tuning(TrainOptions()))
    batches: int = 8


@dataclass(frozen=True)
class PruneReport:
    """What `prune` did: the file, and multiply-accumulates and weights before and after."""

    path: Path
    macs: tuple[int, int]
    weights: tuple[int, int]

    @property
    def ratio(self) -> float:
        """Share of the multiply-accumulates that is left."""
        return self.macs[1] / self.macs[0]


def fine_tuning(options: TrainOptions) -> TrainOptions:
    """The options with warm-up and weight averaging that suit their number of iterations, however short."""
    return replace(
        options,
        warmup=min(options.warmup, max(options.iterations // 10, 1)),
        ema=min(options.ema, 1 - 10 / max(options.iterations, 20)),
    )


def prune(
    checkpoint: Checkpoint, images: Sequence[Path], annotations: Sequence[Path], output: Path, options: PruneOptions,
    stage: Stage, *, resume: bool = False,
) -> PruneReport:  # fmt: skip
    """Prune a checkpoint, fine-tune it by the ordinary training loop and write it.

    Args:
        checkpoint: the trained network.
        images, annotations: folders and COCO instances files, one each, with the checkpoint's categories.
        output: the `.safetensors` to write. The state of the run lies beside it in a folder until it is done.
        options: how much, and how to train.
        stage: announces progress.
        resume: go on where a run with this output was cut off.

    Raises:
        ConfigError: the ratio cannot be reached.
        AnnotationError: the annotations do not match the pictures or the checkpoint.
        CheckpointError: there is an unfinished run, or it was of another ratio or network.
        OutputError: the output cannot be written.
    """
    _check_output(output)
    folder = output.with_suffix(".run")
    pruned = _started(folder, checkpoint, options.ratio) if _is_unfinished(folder, output, resume) else None
    sources = [
        CocoPictures(pictures, file, checkpoint.config, options.training.augmentation)
        for pictures, file in zip(images, annotations, strict=True)
    ]
    _check_labels(checkpoint, sources[0])
    if pruned is None:
        losses = _losses(sources, options, stage("measuring channels", options.batches))
        pruned = prune_network(checkpoint.model, options.ratio, losses)
    weights = _weights(pruned)
    after = count_macs(pruned)
    if options.training.iterations:
        _fine_tune(pruned, sources, folder, output, options.training, stage, resume)
    else:
        save_checkpoint(output, pruned, sources[0].labels)
    return PruneReport(output, (count_macs(checkpoint.model), after), (_weights(checkpoint.model), weights))


def _fine_tune(
    pruned: BlendMask, sources: Sequence[CocoPictures], folder: Path, output: Path,
    options: TrainOptions, stage: Stage, resume: bool,
) -> None:  # fmt: skip
    folder.mkdir(exist_ok=True)
    if not (folder / START_FILE).exists():
        save_checkpoint(folder / START_FILE, pruned, sources[0].labels)
    stream = ViewStream(sources, options.iterations * options.batch, options.seed)
    on_step = stage("fine-tuning", options.iterations)
    train(pruned, stream, folder, options, resume=resume, on_step=lambda *_: on_step()).replace(output)
    for name in (START_FILE, RESUME_FILE, LOG_FILE):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # files of somebody else stay
        folder.rmdir()


def _losses(sources: Sequence[CocoPictures], options: PruneOptions, on_step: Callable[[], None]) -> Iterator[Loss]:
    """The training loss on one batch of views after the other."""
    size = options.training.batch
    stream = ViewStream(sources, options.batches * size, options.training.seed)
    for index in range(options.batches):
        batch = collate([stream[item] for item in range(index * size, (index + 1) * size)])

        def loss(network: BlendMask) -> Tensor:
            losses = step_losses(network, network, batch, options.training, index)  # noqa: B023
            return sum(losses.values(), losses["loss_mask"].new_zeros(()))

        yield loss
        on_step()


def _check_output(output: Path) -> None:
    if output.suffix != ".safetensors" or output.is_dir() or not output.parent.is_dir():
        raise OutputError(
            f"the output {output} must be a .safetensors file in a folder that exists: e.g. -o pruned.safetensors"
        )


def _check_labels(checkpoint: Checkpoint, pictures: CocoPictures) -> None:
    """The categories must be the checkpoint's, unless it never named its own."""
    known = checkpoint.labels
    if known not in (pictures.labels, default_labels(checkpoint.config.classes)):
        raise AnnotationError(
            f"the annotations name the categories {', '.join(pictures.labels.names[:5])} ..., the checkpoint "
            f"{', '.join(known.names[:5])} ...: give annotations of the data it was trained on"
        )


def _is_unfinished(folder: Path, output: Path, resume: bool) -> bool:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}, where the run for {output.name} would lie, is a file: name another --output")
    started, trained = (folder / START_FILE).is_file(), (folder / RESUME_FILE).is_file()
    if trained and not started:
        raise CheckpointError(f"{folder} holds a run of another command: name another --output")
    if started and not resume:
        raise CheckpointError(f"{folder} holds an unfinished run: go on with --resume, or remove it to start again")
    return started


def _started(folder: Path, checkpoint: Checkpoint, ratio: float) -> BlendMask:
    """The pruned network of an unfinished run."""
    found = load_checkpoint(folder / START_FILE).model
    same = replace(found.config, widths=()) == replace(checkpoint.config, widths=())
    reached = count_macs(found) / count_macs(checkpoint.model)
    if not same or not math.isclose(reached, ratio, rel_tol=TOLERANCE):
        raise CheckpointError(
            f"{folder} holds a run of {found.config.name} at {reached:.3f} of the multiply-accumulates, not of "
            f"{checkpoint.config.name} at {ratio}: name another --output, or remove the folder to start again"
        )
    return found


def _weights(model: BlendMask) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
