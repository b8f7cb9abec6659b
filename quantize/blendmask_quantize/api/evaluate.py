"""`evaluate`: box and mask AP of a checkpoint or a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from blendmask_edge.errors import ConfigError
from blendmask_edge.evaluation import average_precision
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.predictions import Predictor
from blendmask_quantize.api.arguments import (
    AnyCheckpoint,
    AnyConfig,
    check_checkpoint,
    check_classes,
    open_checkpoint,
)
from blendmask_quantize.checkpoints.class_names import ClassNames
from blendmask_quantize.pipeline.options import PathLike
from blendmask_quantize.runs.progress import Progress, silent

if TYPE_CHECKING:
    from blendmask_edge.instances import Labels


def evaluate(
    model: AnyCheckpoint, images: PathLike, annotations: PathLike, *, config: AnyConfig = None,
    classes: ClassNames | None = None, variant: str | None = None, runtime: str = "onnxruntime",
    limit: int | None = None, progress: Progress | None = None,
) -> dict[str, float]:  # fmt: skip
    """Measure COCO box and mask AP.

    Args:
        model: path of a bundle or of a checkpoint, or a loaded checkpoint.
        images: folder of the images.
        annotations: their COCO instances JSON.
        config: of a checkpoint that does not name its own.
        classes: of a checkpoint that does not name its own, as for `load_checkpoint`; None takes those of the
            annotations.
        variant: graph of a bundle; None takes the runtime's own.
        runtime: of a bundle.
        limit: measure on the first images only.
        progress: as for `quantize`.

    Returns:
        Average precision 0..1 by name: "mask_ap", "box_ap", by overlap and size, e.g. "mask_ap50", and by class.

    Raises:
        AnnotationError: the annotations cannot be read, or do not fit the images or the model.
        CheckpointError, BundleError: the model cannot be read.
        ConfigError: an option does not apply to the model.
    """
    annotated = AnnotatedImages.open(images, annotations, limit=limit)
    labels = check_classes(classes)
    with _opened(model, config, labels, annotations, variant, runtime) as (predict, labels):
        annotated.check_labels(labels)
        return average_precision.evaluate(predict, annotated, (progress or silent)("evaluating", len(annotated.ids)))


@contextmanager
def _opened(
    model: AnyCheckpoint,
    config: AnyConfig,
    classes: Labels | None,
    annotations: PathLike,
    variant: str | None,
    runtime: str,
) -> Iterator[tuple[Predictor, Labels]]:
    """The model as a predictor, and its labels; closed behind the block."""
    from blendmask_edge.instances import Labels

    if str(model).endswith(".bmz"):
        from blendmask_edge import MaskPredictor

        if config is not None:
            raise ConfigError("--config is for checkpoints: a bundle carries its own")
        if classes is not None:
            raise ConfigError("--classes is for checkpoints: a bundle names its own")
        with MaskPredictor(Path(str(model)), runtime, score_threshold=0.0, variant=variant) as bundle:
            yield bundle, Labels(bundle.manifest.classes, bundle.manifest.category_ids)
        return
    if variant is not None:
        raise ConfigError("--variant is for bundles: a checkpoint has one network")
    check_checkpoint(model)
    checkpoint = open_checkpoint(model, config, classes, [annotations])
    from blendmask_quantize.model.predictor import TorchPredictor

    yield TorchPredictor(checkpoint.model, checkpoint.labels), checkpoint.labels
