"""`evaluate`: measure box and mask AP of a checkpoint or a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blendmask_edge import MaskPredictor
from blendmask_edge.batch.annotated import predict_annotated
from blendmask_edge.batch.source import BundleSource, OpenedSource, PredictorSource
from blendmask_edge.errors import ConfigError
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.evaluation.predictions import Predictor
from blendmask_edge.execution.choice import choose_executor, worker_threads
from blendmask_edge.execution.serial import SerialExecutor
from blendmask_edge.labels import Labels
from blendmask_edge.runtimes.registry import AUTO, select
from blendmask_quantize.api.arguments import (
    AnyCheckpoint,
    AnyConfig,
    as_progress,
    check_annotations,
    check_checkpoint,
    check_classes,
    check_images,
    known_config,
    open_checkpoint,
)
from blendmask_quantize.api.values import PATH, TEXT, as_path, check_all, whole
from blendmask_quantize.checkpoints.class_names import ClassNames
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.runs.progress import Progress

BUNDLE_SUFFIX = ".bmz"
_RUNTIME = "onnxruntime"
_KINDS = {
    "variant": TEXT.or_none(), "runtime": TEXT, "limit": whole(1).or_none(), "threads": whole(1, 256).or_none(),
    "shards": PATH.or_none(),
}  # fmt: skip


def evaluate(
    model: AnyCheckpoint, images: PathLike, annotations: PathLike, *, config: AnyConfig = None,
    classes: ClassNames | None = None, variant: str | None = None, runtime: str = _RUNTIME,
    limit: int | None = None, progress: Progress | None = None, processes: int = 1, ray: str | None = None,
    threads: int | None = None, shards: PathLike | None = None,
) -> dict[str, float]:  # fmt: skip
    """Measure COCO box and mask AP of a bundle or a checkpoint.

    Args:
        model: path of a bundle or a checkpoint, or a loaded checkpoint.
        images: folder of images.
        annotations: COCO instances JSON of the images.
        config: configuration of a checkpoint that does not store its own, as for `load_checkpoint`.
        classes: class names of a checkpoint that does not store its own, as for `load_checkpoint`; None takes those of
            the annotations.
        variant: graph of a bundle; None takes the one that the runtime prefers.
        runtime: runtime of a bundle.
        limit: number of images to evaluate, from the first; None evaluates all.
        progress: callback, as for `quantize`.
        processes: number of processes on this machine, 1 to 256.
        ray: address of a Ray cluster to work on instead, "HOST:PORT", "auto" or "local".
        threads: threads of each process; None takes an equal share of the cores. Results are the same to the last digit
            for any number of processes with the same number of threads.
        shards: folder for results of finished images, from which the same call continues after an interruption; it is
            cleared at the end. None keeps none.

    Returns:
        Average precision, 0 to 1, by name: "mask_ap", "box_ap", by IoU and size ("mask_ap50", "mask_ap_small") and by
        class ("mask_ap/mug").

    Raises:
        AnnotationError: the annotations cannot be read, or do not match the images or the model.
        CheckpointError, BundleError: the model cannot be read.
        ConfigError: an option does not apply to the model, or is out of range.
        WorkerError: processes die repeatedly, or the cluster does not answer or cannot do the work.
        OutputError: results cannot be written.

    Example:
        >>> from blendmask_quantize import evaluate
        >>> metrics = evaluate("checkpoint.safetensors", "scenes", "scenes.json")
        >>> print(f"mask AP {metrics['mask_ap']:.2f}, box AP {metrics['box_ap']:.2f}")
        mask AP 0..., box AP 0...
    """
    is_bundle = PATH.fits(model) and str(model).endswith(BUNDLE_SUFFIX)
    folder, file = as_path("images", images), as_path("annotations", annotations)
    options = {"variant": variant, "runtime": runtime, "limit": limit, "threads": threads, "shards": shards}
    check_all(_KINDS, options)
    executor = choose_executor(processes, ray, threads)
    threads = worker_threads(processes, ray, threads)
    on_stage, labels = as_progress(progress), check_classes(model, classes)
    if is_bundle:
        _check_bundle_options(config, labels, runtime)
    else:
        _check_checkpoint_options(model, config, variant, runtime)
    check_images(folder)
    check_annotations(file, "their COCO instances JSON")
    annotated = AnnotatedImages.open(folder, file, limit=limit)
    if is_bundle:
        opened = _bundle(Path(str(model)), runtime, variant, threads)
    else:
        opened = _checkpoint(model, config, labels, file, threads)
    with opened as (predict, known, source):
        annotated.check_labels(known)
        here = isinstance(executor, SerialExecutor)
        chosen = OpenedSource(predict, source.identity) if here else source
        on_image = on_stage("evaluating", len(annotated.ids))
        results = predict_annotated(chosen, annotated, executor, on_image, shards)
        return score(annotated.coco, results, annotated.ids)


def _check_bundle_options(config: AnyConfig, classes: Labels | None, runtime: str) -> None:
    if config is not None:
        raise ConfigError("--config applies to checkpoints only; a bundle contains its configuration")
    if classes is not None:
        raise ConfigError("--classes applies to checkpoints only; a bundle contains its class names")
    if runtime != AUTO:
        select(runtime)


def _check_checkpoint_options(model: AnyCheckpoint, config: AnyConfig, variant: str | None, runtime: str) -> None:
    if variant is not None:
        raise ConfigError("--variant applies to bundles only; a checkpoint has one network")
    if runtime not in (_RUNTIME, AUTO):
        raise ConfigError("--runtime applies to bundles only; a checkpoint runs in PyTorch")
    check_checkpoint(model, "model")
    known_config(model, config)


_Opened = tuple[Predictor, Labels, PredictorSource]
"""A predictor, its labels, and where other processes get it from."""


@contextmanager
def _bundle(path: Path, runtime: str, variant: str | None, threads: int | None) -> Iterator[_Opened]:
    """Open a bundle as a predictor; close it at the end of the block."""
    with MaskPredictor(path, runtime, threads, 0.0, variant) as predictor:
        labels = Labels(predictor.manifest.classes, predictor.manifest.category_ids)
        yield predictor, labels, BundleSource.of(predictor, threads)


@contextmanager
def _checkpoint(
    model: AnyCheckpoint, config: AnyConfig, classes: Labels | None, annotations: Path, threads: int | None
) -> Iterator[_Opened]:
    """Open a checkpoint as a predictor."""
    checkpoint = open_checkpoint(model, config, classes, [annotations])
    from blendmask_quantize.checkpoints.source import CheckpointSource

    source = CheckpointSource(checkpoint, threads)
    with source.open() as predictor:
        yield predictor, checkpoint.labels, source
