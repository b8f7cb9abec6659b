"""The stages that recipes share: read the images, calibrate, refine."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_calibration.checks.guard import check_channel_order
from blendmask_edge.imaging import read_image
from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.pipeline.calibration_set import (
    CalibrationSet,
    checked,
    for_users,
    load_calibration_set,
    with_detection_counts,
)
from blendmask_quantize.pipeline.job import Job
from blendmask_quantize.pipeline.quantized import Quantized
from blendmask_quantize.quantization.inputs import NetworkInputs
from blendmask_quantize.quantization.ptq import Calibrated, estimate, observe
from blendmask_quantize.quantization.refine.steps import Given, Observed, Outcome, refine
from blendmask_quantize.validation.channel_order import MOST, detection_scores, scores_both_ways
from blendmask_quantize.validation.drift import DriftCriterion


def read_images(job: Job) -> CalibrationSet:
    """The calibration images, checked by the guard, also for the order of their channels.

    Raises:
        CalibrationError: the guard refuses them.
    """
    images = load_calibration_set(job.dataset, job.options, job.size, job.pad_value, job.progress)
    on_image = job.progress("checking channel order", 2 * min(MOST, len(images.images)))
    given, swapped = scores_both_ways(job.graph(job.network), images.images, on_image)
    return checked(images, check_channel_order(given, swapped), job.options.allow)


def count_instances(job: Job, images: CalibrationSet) -> list[int]:
    """Number of instances that the float network detects in each image."""
    graph, on_step = job.graph(job.network), job.progress("looking for instances", len(images.images))
    counts = []
    for x in NetworkInputs(job.checkpoint.model, images.images):
        with torch.no_grad():
            counts.append(len(detection_scores(graph, job.network(x))))
        on_step()
    return counts


def calibrate(job: Job, images: CalibrationSet, *, judged: bool = False) -> Quantized:
    """Ranges from the images, refined by the steps of the job.

    Args:
        job: the float network.
        images: from `read_images`.
        judged: whether the guard has seen already what a network detects in them.

    Raises:
        CalibrationError: the network detects almost nothing.
    """
    observed, counts = _observe(job, images)
    if not judged:
        images = with_detection_counts(images, counts, job.options.allow)
    calibrated, refined = _refine(job, observed, images)
    return Quantized(job, calibrated, images, _original(job, images, int(np.argmax(counts))), refined)


def _original(job: Job, images: CalibrationSet, index: int) -> NDArray[np.uint8]:
    """An image as in its file; preprocessed where there is no file."""
    if job.dataset.folder is None:
        return images.images[index][0]
    return read_image(job.dataset.folder / images.record.images[index].name)


def _observe(job: Job, images: CalibrationSet) -> tuple[Observed, list[int]]:
    """Ranges, and the number of instances that the float network detects in each image."""
    counts: list[int] = []
    graph, on_step = job.graph(job.network), job.progress("calibrating", len(images.images))

    def on_image(predictions: Predictions) -> None:
        counts.append(len(detection_scores(graph, predictions)))
        on_step()

    given = _given(job, images)
    with for_users():
        histograms = observe(job.network, given.inputs, on_image)
        calibrated = Calibrated(job.network, estimate(job.network, histograms, given.first_estimator))
    return Observed(calibrated, histograms, job.network), counts


def _given(job: Job, images: CalibrationSet) -> Given:
    return Given(NetworkInputs(job.checkpoint.model, images.images), job.options.estimator)


def _refine(job: Job, observed: Observed, images: CalibrationSet) -> tuple[Calibrated, tuple[Outcome, ...]]:
    """Take the steps, and keep those that bring the networks nearer to float on held-out images."""
    if not job.steps:
        return observed.calibrated, ()
    on_step = job.progress("refining", len(job.steps))
    criterion = DriftCriterion(job.predictor, observed.reference, images.compared)
    with for_users():
        return refine(observed, job.steps, _given(job, images), criterion, on_step)
