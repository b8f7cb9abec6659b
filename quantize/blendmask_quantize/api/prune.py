"""`prune`: reduce the channels of a checkpoint, and fine-tune it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blendmask_edge.errors import OutputError
from blendmask_edge.runtimes.registry import select
from blendmask_quantize.api.arguments import (
    AnyCheckpoint,
    AnyConfig,
    as_paths,
    as_progress,
    changed,
    check_checkpoint,
    check_classes,
    check_output,
    check_pairs,
    known_config,
    open_checkpoint,
)
from blendmask_quantize.api.values import FLAG, TEXT, Kind, as_path, check_all, each, number
from blendmask_quantize.checkpoints.class_names import ClassNames
from blendmask_quantize.model.patterns import parse_pattern
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.pruning.options import LATENCY, PruneOptions, fine_tuning, with_target
from blendmask_quantize.runs.progress import Progress
from blendmask_quantize.training.options import TrainOptions

_SUFFIX = ".safetensors"

if TYPE_CHECKING:
    from blendmask_quantize.pruning.job import PruneReport


def prune(
    checkpoint: AnyCheckpoint, images: PathLike | Iterable[PathLike], annotations: PathLike | Iterable[PathLike],
    output: PathLike, macs: float | None = None, *, parameters: float | None = None, latency: float | None = None,
    config: AnyConfig = None, classes: ClassNames | None = None, training: TrainOptions | None = None,
    options: PruneOptions | None = None, resume: bool = False, progress: Progress | None = None, **changes: Any,
) -> PruneReport:  # fmt: skip
    """Prune a checkpoint to a share of its multiply-accumulates, parameters or latency, and fine-tune it.

    Args:
        checkpoint: path of a checkpoint, or a loaded checkpoint.
        images: folder of images, or a list of folders.
        annotations: COCO instances JSON, or one per folder.
        output: path of the `.safetensors` file to write.
        macs: share of the multiply-accumulates to keep, 0 to 1; 0.7 where no target is given.
        parameters: share of the parameters to keep instead.
        latency: share of the time of the INT8 graph to keep instead, under the `runtime` of the options on this
            machine. It is predicted from measured times of single layers, which a cache keeps.
        config: configuration of a checkpoint that does not store its own, as for `load_checkpoint`.
        classes: class names of a checkpoint that does not store its own, as for `load_checkpoint`; None takes those of
            the annotations.
        training: options of the fine-tuning; None takes the defaults, and `iterations=0` skips it.
        options: all options; targets, `training` and `changes` override them.
        resume: continue the interrupted run with the same output.
        progress: callback, as for `quantize`.
        **changes: fields of `PruneOptions`, e.g. `importance`, `protect` or `runtime`.

    Returns:
        Path of the pruned checkpoint, and multiply-accumulates and weights before and after.

    Raises:
        CheckpointError: the checkpoint cannot be read, or there is an unfinished run for the same output.
        AnnotationError: the annotations cannot be read, or do not match the images or the classes.
        ConfigError: the share cannot be reached, or a protected layer does not exist.
        RuntimeUnavailableError: the runtime of a latency target is not installed.
        OutputError: the output cannot be written.

    Example:
        >>> from blendmask_quantize import TrainOptions, prune
        >>> training = TrainOptions(iterations=0, batch=2, workers=0)
        >>> report = prune("checkpoint.safetensors", "scenes", "scenes.json", "p.safetensors", 0.8, training=training)
        >>> print(f"{report.ratio:.1f} of the multiply-accumulates")
        0.8 of the multiply-accumulates
    """
    folders, files = as_paths("images", images), as_paths("annotations", annotations)
    path = as_path("output", output)
    targets = {"macs": macs, "parameters": parameters, "latency": latency}
    check_all(
        {**dict.fromkeys(targets, number(0, 1, above=True).or_none()), "resume": FLAG}, {**targets, "resume": resume}
    )
    Kind(lambda value: isinstance(value, TrainOptions), "TrainOptions").or_none().check("training", training)
    chosen = with_target(changed(options, PruneOptions(), changes, "prune"), macs, parameters, latency)
    if training is not None:
        chosen = replace(chosen, training=fine_tuning(training))
    check_arguments(checkpoint, folders, files, path, chosen, config)
    labels, on_stage = check_classes(checkpoint, classes), as_progress(progress)
    from blendmask_quantize.latency.network import latency_cost
    from blendmask_quantize.pruning.job import prune as run
    from blendmask_quantize.training.coco_images import CocoImages

    loaded = open_checkpoint(checkpoint, config, labels, files[:1])
    pairs = zip(folders, files, strict=True)
    augmentation = chosen.training.augmentation
    sources = [CocoImages.open(*pair, loaded.config, augmentation, labels=loaded.labels) for pair in pairs]
    cost_of = latency_cost(loaded.model, None, chosen, on_stage)
    return run(loaded, sources, path, chosen, on_stage, resume=resume, cost_of=cost_of)


def check_arguments(
    checkpoint: AnyCheckpoint, images: list[Path], annotations: list[Path], output: Path, options: PruneOptions,
    config: AnyConfig,
) -> None:  # fmt: skip
    """See that what `prune` is given is possible, as far as that can be told without torch.

    Raises:
        CheckpointError, AnnotationError, ConfigError, OutputError, RuntimeUnavailableError: as `prune`.
    """
    check_checkpoint(checkpoint)
    check_pairs(images, annotations)
    check_pruning(options)
    known_config(checkpoint, config)
    if output.suffix != _SUFFIX:
        raise OutputError(f"the output {output} is not a {_SUFFIX} file: give a name such as pruned{_SUFFIX}")
    check_output(output, f"pruned{_SUFFIX}", inputs=(checkpoint, config, *annotations))


def check_pruning(options: PruneOptions) -> None:
    """See that pruning is possible, as far as that can be told without a network.

    Raises:
        ConfigError: a protected layer is not a pattern.
        RuntimeUnavailableError: the runtime of a latency target is not installed.
    """
    each(TEXT, "names or patterns of layers").check("protect", options.protect)
    number(0, 1, above=True).check(options.target, options.ratio)
    for pattern in options.protect:
        parse_pattern(pattern)
    if options.target == LATENCY:
        select(options.runtime).load()
