"""`evaluate`: measure box and mask AP of a checkpoint or a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blendmask_edge import MaskPredictor
from blendmask_edge.errors import ConfigError
from blendmask_edge.evaluation import average_precision
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.predictions import Predictor
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
_KINDS = {"variant": TEXT.or_none(), "runtime": TEXT, "limit": whole(1).or_none()}


def evaluate(
    model: AnyCheckpoint, images: PathLike, annotations: PathLike, *, config: AnyConfig = None,
    classes: ClassNames | None = None, variant: str | None = None, runtime: str = "onnxruntime",
    limit: int | None = None, progress: Progress | None = None,
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

    Returns:
        Average precision, 0 to 1, by name: "mask_ap", "box_ap", by IoU and size ("mask_ap50", "mask_ap_small") and by
        class ("mask_ap/mug").

    Raises:
        AnnotationError: the annotations cannot be read, or do not match the images or the model.
        CheckpointError, BundleError: the model cannot be read.
        ConfigError: an option does not apply to the model.

    Example:
        >>> from blendmask_quantize import evaluate
        >>> metrics = evaluate("checkpoint.safetensors", "scenes", "scenes.json")
        >>> print(f"mask AP {metrics['mask_ap']:.2f}, box AP {metrics['box_ap']:.2f}")
        mask AP 0..., box AP 0...
    """
    is_bundle = PATH.fits(model) and str(model).endswith(BUNDLE_SUFFIX)
    folder, file = as_path("images", images), as_path("annotations", annotations)
    check_all(_KINDS, {"variant": variant, "runtime": runtime, "limit": limit})
    on_stage, labels = as_progress(progress), check_classes(classes)
    if is_bundle:
        _check_bundle_options(config, labels, runtime)
    else:
        _check_checkpoint_options(model, config, variant)
    check_images(folder)
    check_annotations(file, "their COCO instances JSON")
    annotated = AnnotatedImages.open(folder, file, limit=limit)
    opened = _bundle(Path(str(model)), runtime, variant) if is_bundle else _checkpoint(model, config, labels, file)
    with opened as (predict, known):
        annotated.check_labels(known)
        return average_precision.evaluate(predict, annotated, on_stage("evaluating", len(annotated.ids)))


def _check_bundle_options(config: AnyConfig, classes: Labels | None, runtime: str) -> None:
    if config is not None:
        raise ConfigError("--config applies to checkpoints only; a bundle contains its configuration")
    if classes is not None:
        raise ConfigError("--classes applies to checkpoints only; a bundle contains its class names")
    if runtime != AUTO:
        select(runtime)


def _check_checkpoint_options(model: AnyCheckpoint, config: AnyConfig, variant: str | None) -> None:
    if variant is not None:
        raise ConfigError("--variant applies to bundles only; a checkpoint has one network")
    check_checkpoint(model, "model")
    known_config(model, config)


@contextmanager
def _bundle(path: Path, runtime: str, variant: str | None) -> Iterator[tuple[Predictor, Labels]]:
    """Open a bundle as a predictor with its labels; close it at the end of the block."""
    with MaskPredictor(path, runtime, score_threshold=0.0, variant=variant) as predictor:
        yield predictor, Labels(predictor.manifest.classes, predictor.manifest.category_ids)


@contextmanager
def _checkpoint(
    model: AnyCheckpoint, config: AnyConfig, classes: Labels | None, annotations: Path
) -> Iterator[tuple[Predictor, Labels]]:  # fmt: skip
    """Open a checkpoint as a predictor with its labels."""
    checkpoint = open_checkpoint(model, config, classes, [annotations])
    from blendmask_quantize.model.predictor import TorchPredictor

    yield TorchPredictor(checkpoint.model, checkpoint.labels), checkpoint.labels
