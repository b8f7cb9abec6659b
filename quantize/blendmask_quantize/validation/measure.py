"""What the graphs of a bundle are worth as the SDK runs them: accuracy on annotated images, latency side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendmask_edge import MaskPredictor
from blendmask_edge.bundle.manifest import Measurement
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.instances import Instances, Labels
from blendmask_quantize.validation.evaluate import Predictor, collect_results, score
from blendmask_quantize.validation.fidelity import Fidelity, compare_found
from blendmask_quantize.validation.latency import interleaved_latency

OnStep = Callable[[], None]
Stage = Callable[[str, int], OnStep]
"""Announces a stage with its number of steps; returns what to call after each step."""

RUNTIME = "onnxruntime"
"""What measures a bundle, so that its numbers do not depend on what else is installed."""


@dataclass(frozen=True)
class Evaluation:
    """Annotated images that fit a model, and what a manifest calls them."""

    name: str
    images: AnnotatedImages


@dataclass(frozen=True)
class EvaluationData:
    """Annotated images that a bundle is measured on: a folder and its COCO JSON."""

    images: Path
    annotations: Path

    def open(self, labels: Labels) -> Evaluation:
        """Read the annotations; the name is of folder and file, without where they lie.

        Raises:
            AnnotationError: they cannot be read, or do not fit the images or the model's labels.
        """
        name = f"{self.images.name} ({self.annotations.name})"
        return Evaluation(name, AnnotatedImages.open(self.images, self.annotations, labels))


@dataclass(frozen=True)
class Measured:
    """What was measured, by variant.

    Attributes:
        accuracy: metrics and what they were measured on; empty where there was nothing to measure on.
        latency_ms: milliseconds of each frame, the same frames for every timed variant.
    """

    accuracy: Mapping[str, Measurement]
    latency_ms: Mapping[str, Sequence[float]]

    def metrics(self, variant: str) -> dict[str, float]:
        """Accuracy by name, see `evaluate.score`; empty where it was not measured."""
        return dict(self.accuracy[variant].metrics) if variant in self.accuracy else {}

    def latency_p50_ms(self, variant: str) -> float | None:
        """Median latency; None where it was not timed."""
        return statistics.median(self.latency_ms[variant]) if variant in self.latency_ms else None


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
    expected = _found(path, reference, frames, on_frame)
    return {
        variant: compare_found(zip(expected, _found(path, variant, frames, on_frame), strict=True))
        for variant in variants
    }


def _found(path: Path, variant: str, frames: Sequence[NDArray[np.uint8]], on_frame: OnStep) -> list[Instances]:
    found = []
    with MaskPredictor(path, RUNTIME, variant=variant) as predictor:
        for frame in frames:
            found.append(predictor(frame))
            on_frame()
    return found


def measure_bundle(
    path: Path, variants: Sequence[str], evaluation: Evaluation | None, stage: Stage, *, timed: Sequence[str],
    frames: Sequence[NDArray[np.uint8]],
) -> Measured:  # fmt: skip
    """Measure graphs of a bundle in ONNX Runtime.

    Args:
        path: the bundle.
        variants: the graphs whose accuracy is measured.
        evaluation: what it is measured on; None measures none.
        stage: told of the images of all graphs.
        timed: those of the variants whose latency is compared.
        frames: (H, W, 3) uint8 RGB, what they are timed on.
    """
    with ExitStack() as stack:
        predictors = {
            variant: stack.enter_context(MaskPredictor(path, RUNTIME, variant=variant)) for variant in variants
        }
        accuracy = _accuracy(predictors, evaluation, stage) if evaluation is not None else {}
        return Measured(accuracy, interleaved_latency({name: predictors[name] for name in timed}, frames))


def _accuracy(predictors: Mapping[str, Predictor], evaluation: Evaluation, stage: Stage) -> dict[str, Measurement]:
    images = evaluation.images
    on_image = stage("evaluating", len(images.ids) * len(predictors))
    accuracy = {}
    for variant, predictor in predictors.items():
        results = collect_results(predictor, images.folder, images.coco, images.ids, on_image)
        metrics = score(images.coco, results, images.ids)
        accuracy[variant] = Measurement(data=evaluation.name, images=len(images.ids), metrics=metrics)
    return accuracy
