"""Fidelity, accuracy and latency of the graphs of a bundle, as the SDK runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendmask_edge import MaskPredictor
from blendmask_edge.benchmark.side_by_side import THREADS, time_side_by_side
from blendmask_edge.bundle.manifest import Manifest, Measurement
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.evaluation.display_threshold import DisplayThreshold, choose_display_threshold
from blendmask_edge.evaluation.predictions import Results, predict_annotated, predict_images
from blendmask_edge.instances import Instances
from blendmask_quantize.runs.progress import OnStep, Progress
from blendmask_quantize.validation.fidelity import Fidelity, compare_instances
from blendmask_quantize.validation.gpu_arithmetic import GRAPH_IN

RUNTIME = "onnxruntime"
"""The runtime that measures a bundle, so that its numbers do not depend on what else is installed."""


@dataclass(frozen=True)
class Evaluation:
    """Annotated images that fit a model, and what a manifest calls them."""

    name: str
    images: AnnotatedImages


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of the graphs of a bundle.

    Attributes:
        measurements: by variant; empty where nothing was measured.
        display: the threshold for showing instances, chosen on the same images; None where none could be.
        display_measurement: what it reaches, for the manifest.
        arithmetic: of the `tensorrt` graph in each arithmetic that a GPU may use, by name; empty unless asked for.
        failure: why nothing was measured after all; empty where all was well.
    """

    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    display: DisplayThreshold | None = None
    display_measurement: Measurement | None = None
    arithmetic: Mapping[str, Measurement] = field(default_factory=dict)
    failure: str = ""

    def metrics(self, variant: str) -> dict[str, float]:
        """Accuracy of a variant by name; empty where it was not measured."""
        return dict(self.measurements[variant].metrics) if variant in self.measurements else {}


def open_evaluation(images: Path, annotations: Path) -> Evaluation:
    """Read the annotations of images; the name is that of folder and file, without their places.

    Raises:
        AnnotationError: they cannot be read, or do not fit the images.
    """
    return Evaluation(f"{images.name} ({annotations.name})", AnnotatedImages.open(images, annotations))


def compare_variants(
    path: Path, reference: str, variants: Sequence[str], frames: Sequence[NDArray[np.uint8]], on_frame: OnStep
) -> dict[str, Fidelity]:
    """How far graphs of a bundle are from another one, by variant, all in ONNX Runtime.

    Args:
        path: the bundle.
        reference: the graph that the others are compared with.
        variants: the others.
        frames: (H, W, 3) uint8 RGB, what they are compared on.
        on_frame: called after each frame and graph.
    """
    expected, rows = _instances(path, reference, frames, on_frame), Bundle.open(path, public_key=()).manifest.detections
    return {
        variant: compare_instances(zip(expected, _instances(path, variant, frames, on_frame), strict=True), rows)
        for variant in variants
    }


def _instances(path: Path, variant: str, frames: Sequence[NDArray[np.uint8]], on_frame: OnStep) -> list[Instances]:
    with _open(path, variant) as predictor:
        return list(predict_images(predictor, frames, on_frame))


def measure_latency(path: Path, variants: Sequence[str], frames: Sequence[NDArray[np.uint8]]) -> dict[str, list[float]]:
    """Milliseconds of each frame in ONNX Runtime, by the protocol of `blendmask_edge.benchmark.side_by_side`.

    Args:
        path: the bundle.
        variants: the graphs that are timed.
        frames: (H, W, 3) uint8 RGB.
    """
    with _predictors(path, variants, THREADS) as predictors:
        return time_side_by_side(predictors, frames)


def measure_accuracy(
    path: Path, variants: Sequence[str], displayed: str, evaluation: Evaluation, progress: Progress
) -> Accuracy:
    """Accuracy of graphs of a bundle in ONNX Runtime, and the threshold for showing instances.

    Args:
        path: the bundle.
        variants: the graphs that are measured.
        displayed: the graph that the threshold is chosen for.
        evaluation: annotated images.
        progress: announces the images of all graphs.
    """
    images = evaluation.images
    on_image = progress("evaluating", len(images.ids) * len(variants))
    with _predictors(path, variants) as predictors:
        results = {variant: predict_annotated(predictor, images, on_image) for variant, predictor in predictors.items()}

    display = choose_display_threshold(images.coco, results[displayed], images.ids)
    return Accuracy(
        {variant: _scored(evaluation, detections) for variant, detections in results.items()},
        display,
        _record(evaluation, display.metrics()) if display is not None else None,
    )


def measure_arithmetic(
    manifest: Manifest, graph: bytes, evaluation: Evaluation, progress: Progress
) -> dict[str, Measurement]:
    """Accuracy of a `tensorrt` graph in each arithmetic that a GPU may use, by name as in `GRAPH_IN`.

    Args:
        manifest: of the bundle of the graph.
        graph: the ONNX file.
        evaluation: annotated images.
        progress: announces the images of all arithmetics.
    """
    from blendmask_quantize.validation.as_written import AsWritten  # loads torch, which checks of arguments do without

    on_image = progress("evaluating arithmetic", len(evaluation.images.ids) * len(GRAPH_IN))
    return {
        name: _scored(evaluation, predict_annotated(AsWritten(manifest, rewrite(graph)), evaluation.images, on_image))
        for name, rewrite in GRAPH_IN.items()
    }


def _scored(evaluation: Evaluation, detections: Results) -> Measurement:
    return _record(evaluation, score(evaluation.images.coco, detections, evaluation.images.ids))


def _record(evaluation: Evaluation, metrics: dict[str, float]) -> Measurement:
    return Measurement(data=evaluation.name, images=len(evaluation.images.ids), metrics=metrics)


@contextmanager
def _predictors(
    path: Path, variants: Sequence[str], threads: int | None = None
) -> Iterator[dict[str, MaskPredictor]]:  # fmt: skip
    with ExitStack() as stack:
        yield {variant: stack.enter_context(_open(path, variant, threads)) for variant in variants}


def _open(path: Path, variant: str, threads: int | None = None) -> MaskPredictor:
    """Open a bundle that was just written, and that nobody has signed yet."""
    return MaskPredictor(path, RUNTIME, threads, 0.0, variant, public_key=())
