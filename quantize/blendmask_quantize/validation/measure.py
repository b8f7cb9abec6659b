"""What the graphs of a bundle are worth as the SDK runs them: accuracy on annotated pictures, latency side by side."""

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
from blendmask_edge.evaluation.annotations import AnnotatedPictures
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
    """Annotated pictures that fit a model, and what a manifest calls them."""

    name: str
    pictures: AnnotatedPictures


@dataclass(frozen=True)
class EvaluationData:
    """Annotated pictures that a bundle is measured on: a folder and its COCO JSON."""

    images: Path
    annotations: Path

    def open(self, labels: Labels) -> Evaluation:
        """Read the annotations; the name is of folder and file, without where they lie.

        Raises:
            AnnotationError: they cannot be read, or do not fit the pictures or the model's labels.
        """
        name = f"{self.images.name} ({self.annotations.name})"
        return Evaluation(name, AnnotatedPictures.open(self.images, self.annotations, labels))


@dataclass(frozen=True)
class Measured:
    """What was measured, by flavour.

    Attributes:
        accuracy: metrics and what they were measured on; empty where there was nothing to measure on.
        latency_ms: milliseconds of each frame, the same frames for every timed flavour.
    """

    accuracy: Mapping[str, Measurement]
    latency_ms: Mapping[str, Sequence[float]]

    def metrics(self, flavour: str) -> dict[str, float]:
        """Accuracy by name, see `evaluate.score`; empty where it was not measured."""
        return dict(self.accuracy[flavour].metrics) if flavour in self.accuracy else {}

    def latency_p50_ms(self, flavour: str) -> float | None:
        """Median latency; None where it was not timed."""
        return statistics.median(self.latency_ms[flavour]) if flavour in self.latency_ms else None


def compare_flavours(
    path: Path, reference: str, flavours: Sequence[str], frames: Sequence[NDArray[np.uint8]], on_frame: OnStep
) -> dict[str, Fidelity]:
    """How far graphs of a bundle are from another one, by flavour, all in ONNX Runtime.

    Args:
        path: the bundle.
        reference: the graph that the others are compared with.
        flavours: the others.
        frames: (H, W, 3) uint8 RGB, what they are compared on.
        on_frame: called after each frame and graph.
    """
    expected = _found(path, reference, frames, on_frame)
    return {
        flavour: compare_found(zip(expected, _found(path, flavour, frames, on_frame), strict=True))
        for flavour in flavours
    }


def _found(path: Path, flavour: str, frames: Sequence[NDArray[np.uint8]], on_frame: OnStep) -> list[Instances]:
    found = []
    with MaskPredictor(path, RUNTIME, flavour=flavour) as predictor:
        for frame in frames:
            found.append(predictor(frame))
            on_frame()
    return found


def measure_bundle(
    path: Path, flavours: Sequence[str], evaluation: Evaluation | None, stage: Stage, *, timed: Sequence[str],
    frames: Sequence[NDArray[np.uint8]],
) -> Measured:  # fmt: skip
    """Measure graphs of a bundle in ONNX Runtime.

    Args:
        path: the bundle.
        flavours: the graphs whose accuracy is measured.
        evaluation: what it is measured on; None measures none.
        stage: told of the pictures of all graphs.
        timed: those of the flavours whose latency is compared.
        frames: (H, W, 3) uint8 RGB, what they are timed on.
    """
    with ExitStack() as stack:
        predictors = {
            flavour: stack.enter_context(MaskPredictor(path, RUNTIME, flavour=flavour)) for flavour in flavours
        }
        accuracy = _accuracy(predictors, evaluation, stage) if evaluation is not None else {}
        return Measured(accuracy, interleaved_latency({name: predictors[name] for name in timed}, frames))


def _accuracy(predictors: Mapping[str, Predictor], evaluation: Evaluation, stage: Stage) -> dict[str, Measurement]:
    pictures = evaluation.pictures
    on_image = stage("evaluating", len(pictures.ids) * len(predictors))
    accuracy = {}
    for flavour, predictor in predictors.items():
        results = collect_results(predictor, pictures.folder, pictures.coco, pictures.ids, on_image)
        metrics = score(pictures.coco, results, pictures.ids)
        accuracy[flavour] = Measurement(data=evaluation.name, images=len(pictures.ids), metrics=metrics)
    return accuracy
