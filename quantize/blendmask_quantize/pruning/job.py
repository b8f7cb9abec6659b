"""Prune a checkpoint, fine-tune it on labeled images and write it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from blendmask_edge.errors import AnnotationError, CheckpointError
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.macs import count_macs
from blendmask_quantize.model.patterns import parse_pattern
from blendmask_quantize.model.sparsity import keep_zeros
from blendmask_quantize.pruning.budget import TOLERANCE
from blendmask_quantize.pruning.channel_pruning import CostOf, prune_network, total_cost
from blendmask_quantize.pruning.depth import candidate_blocks, without_idle_blocks
from blendmask_quantize.pruning.importance import Loss
from blendmask_quantize.pruning.options import LATENCY, MACS, PARAMETERS, TAYLOR, PruneOptions
from blendmask_quantize.pruning.sparsity import make_sparse
from blendmask_quantize.runs.network_digest import network_digest
from blendmask_quantize.runs.progress import OnStep, Progress, ignore, silent
from blendmask_quantize.runs.run_folder import START_FILE, RunFolder, Setting, round_file
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.distill import distill
from blendmask_quantize.training.distill_weights import StudentWeights
from blendmask_quantize.training.loop import step_losses, train
from blendmask_quantize.training.run_settings import data_settings, digest_of, option_settings
from blendmask_quantize.training.samples import collate
from blendmask_quantize.training.stream import AugmentedStream


@dataclass(frozen=True)
class PruneReport:
    """Result of `prune`.

    Attributes:
        path: path of the pruned checkpoint.
        macs: multiply-accumulates for one image of the test size, before and after.
        weights: number of weights, before and after.
        asked: requested share of the target, 0 to 1.
        iterations: number of fine-tuning steps.
        images: number of training images.
        target: what was reduced to that share: "macs", "parameters" or "latency".
        latency_ms: time of the INT8 graph on this machine in milliseconds, measured before and predicted after; None
            for another target.
    """

    path: Path
    macs: tuple[int, int]
    weights: tuple[int, int]
    asked: float
    iterations: int
    images: int
    target: str = MACS
    latency_ms: tuple[float, float] | None = None

    @property
    def ratio(self) -> float:
        """Remaining share of the multiply-accumulates, 0 to 1."""
        return self.macs[1] / self.macs[0]

    def __str__(self) -> str:
        """Describe what remains, in a sentence."""
        (macs_before, macs), (weights_before, weights) = self.macs, self.weights
        work = f"{macs / 1e9:.2f} of {macs_before / 1e9:.2f} billion multiply-accumulates per image ({self.ratio:.3f})"
        text = f"needs {work} and has {weights / 1e6:.2f} of {weights_before / 1e6:.2f} million weights"
        if self.latency_ms is None:
            return text
        return (
            f"{text}; its INT8 graph is predicted to take {self.latency_ms[1]:.1f} of {self.latency_ms[0]:.1f} ms here"
        )

    def record(self) -> dict[str, Any]:
        """Return the result as JSON types, for the manifest."""
        return {
            "target": self.target, "asked": self.asked, "ratio": self.ratio, "macs_before": self.macs[0],
            "macs": self.macs[1], "weights_before": self.weights[0], "weights": self.weights[1],
            "iterations": self.iterations, "trained_on": self.images,
            **({} if self.latency_ms is None else {"latency_ms": list(self.latency_ms)}),
        }  # fmt: skip


def prune(
    checkpoint: Checkpoint, sources: Sequence[CocoImages], output: Path, options: PruneOptions,
    progress: Progress = silent, *, resume: bool = False, cost_of: CostOf | None = None,
) -> PruneReport:  # fmt: skip
    """Prune a checkpoint, fine-tune it and write it; see `blendmask_quantize.prune`.

    Args:
        checkpoint: the trained network.
        sources: labeled images with the categories of the checkpoint.
        output: path of the `.safetensors` file to write. Until it is finished, a folder beside it holds the
            state. The caller sees that it can be written.
        options: share to keep, and options of the fine-tuning.
        progress: callback for each stage.
        resume: continue the interrupted run with the same output.
        cost_of: for the target "latency"; see `prune_network`.

    Raises:
        ConfigError: the share cannot be reached.
        AnnotationError: the annotations do not match the checkpoint or each other.
        CheckpointError: there is an unfinished run, or one of another command, share, network or other images.
        OutputError: the output cannot be written.
        KeyboardInterrupt: the user interrupts; the message says how to go on.
    """
    _check_labels(checkpoint, sources[0])
    run = RunFolder.beside(output, "blendmask prune", run_settings(checkpoint, options) | _image_settings(sources))
    run.check(resume=resume)
    job = _Job(checkpoint, sources, options, progress, resume, cost_of)
    with run.telling_how_to_go_on(), run.active():
        model = checkpoint.model
        for number in range(1, options.rounds):
            result = round_file(run.path, number)
            if not result.is_file():
                job.round(number, model, result.with_suffix(""), result)
            model = load_checkpoint(result).model
        pruned = job.round(options.rounds, model, run.path, output)
        return _report(checkpoint, pruned, output, options, sources, cost_of)


def finished_pruning(
    checkpoint: Checkpoint, sources: Sequence[CocoImages], path: Path, options: PruneOptions,
    cost_of: CostOf | None = None,
) -> PruneReport:  # fmt: skip
    """Return the report for a file that `prune` wrote with the same arguments.

    Raises:
        CheckpointError: the file has another configuration or share, or cannot be read.
    """
    return _report(checkpoint, _started(path, checkpoint, options), path, options, sources, cost_of)


def run_settings(checkpoint: Checkpoint, options: PruneOptions) -> dict[str, Setting]:
    """Return the settings that a resumed run must share. The learning rate may change, e.g. after a NaN loss."""
    training = {f"fine-tuning {name}": value for name, value in option_settings(options.training).items()}
    network = network_digest(checkpoint.model)
    runtime = {"runtime": options.runtime} if options.target == LATENCY else {}
    chosen: dict[str, Setting] = {
        **runtime, "importance": options.importance, "channel multiple": options.multiple or "default",
        "list of protected layers": ", ".join(options.protect), "sparsity": options.sparsity or "none",
        "rounds": options.rounds, "depth": options.depth, "distillation": "on" if options.distill else "off",
    }  # fmt: skip
    return {"network": network, options.target: options.ratio, "batches": options.batches, **chosen, **training}


@dataclass(frozen=True)
class _Job:
    """The inputs of every round; see `prune`."""

    checkpoint: Checkpoint
    sources: Sequence[CocoImages]
    options: PruneOptions
    progress: Progress
    resume: bool
    cost_of: CostOf | None

    def round(self, number: int, model: BlendMask, folder: Path, output: Path) -> BlendMask:
        """Prune, fine-tune and write the result.

        Args:
            number: of the round, from 1 on.
            model: the result of the round before.
            folder: for the state of the fine-tuning.
            output: path of the file to write.

        Returns:
            The pruned network, of which only the widths are sure to be those in the file.
        """
        start = folder / START_FILE
        if not start.is_file():
            pruned = self._prune(number, model)
        elif number == self.options.rounds:
            pruned = _started(start, self.checkpoint, self.options)
        else:
            pruned = load_checkpoint(start).model
        self._fine_tune(number, pruned, folder, output)
        return pruned

    def _prune(self, number: int, model: BlendMask) -> BlendMask:
        options, ratio = self.options, self.options.ratio
        if options.depth and number == 1:
            model = self._shallow(model)
        if options.rounds > 1 or options.depth:
            whole, now = (total_cost(each, options, self.cost_of) for each in (self.checkpoint.model, model))
            ratio = min(1.0, options.share(number) * whole / now)
        measured = options.importance == TAYLOR
        on_step = self.progress("measuring channels", options.batches) if measured else ignore
        losses = _losses(self.sources, options, on_step) if measured else ()
        pruned = prune_network(model, ratio, losses, options=options, cost_of=self.cost_of)
        if options.sparsity is not None and number == options.rounds:
            make_sparse(pruned, map(parse_pattern, options.protect))
        return pruned

    def _shallow(self, model: BlendMask) -> BlendMask:
        options = self.options
        protect = [parse_pattern(pattern) for pattern in options.protect]
        on_step = self.progress("measuring blocks", len(candidate_blocks(model, protect)))
        losses = list(_losses(self.sources, options, ignore))
        return without_idle_blocks(model, losses, options.depth, protect, on_step)

    def _fine_tune(self, number: int, pruned: BlendMask, folder: Path, output: Path) -> None:
        training, labels = self.options.training_of_a_round, self.sources[0].labels
        if not training.iterations:
            save_checkpoint(output, pruned, labels)
            return
        folder.mkdir(exist_ok=True)
        if not (folder / START_FILE).exists():
            save_checkpoint(folder / START_FILE, pruned, labels)
        keep_zeros(pruned)
        stream = AugmentedStream(self.sources, training.iterations * training.batch, training.seed + number - 1)
        on_step = self.progress("fine-tuning", training.iterations)
        if self.options.distill:
            path = distill(
                pruned, self.checkpoint, stream, folder, training, StudentWeights(), labeled=True, resume=self.resume,
                on_step=lambda *_: on_step(),
            )  # fmt: skip
        else:
            path = train(pruned, stream, folder, training, resume=self.resume, on_step=lambda *_: on_step())
        path.replace(output)


def _report(
    checkpoint: Checkpoint, pruned: BlendMask, path: Path, options: PruneOptions, sources: Sequence[CocoImages],
    cost_of: CostOf | None,
) -> PruneReport:  # fmt: skip
    macs, weights = ((count(checkpoint.model), count(pruned)) for count in (count_macs, _weights))
    images = sum(len(source) for source in sources)
    latency = None
    if cost_of is not None:
        latency = (total_cost(checkpoint.model, options, cost_of), total_cost(pruned, options, cost_of))
    return PruneReport(
        path, macs, weights, options.ratio, options.training.iterations, images, options.target, latency
    )  # fmt: skip


def _losses(sources: Sequence[CocoImages], options: PruneOptions, on_step: OnStep) -> Iterator[Loss]:
    """Yield the training loss of one batch after another."""
    size = options.training.batch
    stream = AugmentedStream(sources, options.batches * size, options.training.seed)
    for index in range(options.batches):
        batch = collate([stream[item] for item in range(index * size, (index + 1) * size)])

        def loss(network: BlendMask) -> Tensor:
            losses = step_losses(network, network, batch, options.training, index)  # noqa: B023
            return sum(losses.values(), losses["loss_mask"].new_zeros(()))

        yield loss
        on_step()


def _check_labels(checkpoint: Checkpoint, images: CocoImages) -> None:
    """Check that the categories are those of the checkpoint, if its classes are named."""
    known = checkpoint.labels
    if checkpoint.named and known != images.labels:
        raise AnnotationError(
            f"the annotations have the categories {', '.join(images.labels.names[:5])} ..., but the checkpoint has "
            f"{', '.join(known.names[:5])} ...: give annotations with the categories of its training"
        )


def _started(path: Path, checkpoint: Checkpoint, options: PruneOptions) -> BlendMask:
    """Return the pruned network of an unfinished run."""
    pruned = load_checkpoint(path).model
    same = replace(pruned.config, widths=(), dropped=()) == replace(checkpoint.config, widths=(), dropped=())
    count = {MACS: count_macs, PARAMETERS: _weights}.get(options.target)
    reached = options.ratio if count is None else count(pruned) / count(checkpoint.model)
    least = 0 if options.depth else (1 - TOLERANCE) * options.ratio
    if not same or not least <= reached <= (1 + TOLERANCE) * options.ratio:
        raise CheckpointError(
            f"{path} is {pruned.config.name} at {reached:.3f} of the {options.what}, not "
            f"{checkpoint.config.name} at {options.ratio}: give another --output, or remove {path.parent} to start "
            "again"
        )
    return pruned


def _image_settings(sources: Sequence[CocoImages]) -> dict[str, Setting]:
    images = sum(len(source) for source in sources)
    names = digest_of([source.file_names for source in sources])
    return {**data_settings([source.labeled.digests for source in sources], images), "list of images": names}


def _weights(model: BlendMask) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
