"""The stages that recipes share: read the images, calibrate, refine."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_calibration.checks.guard import check_channel_order, check_detections
from blendmask_calibration.histogram import Histogram
from blendmask_edge.execution.choice import choose_executor, worker_threads
from blendmask_edge.execution.serial import SerialExecutor
from blendmask_edge.imaging import read_image
from blendmask_quantize.pipeline.calibration_set import (
    TO_COMPARE,
    TO_MEASURE,
    CalibrationSet,
    HoldOut,
    for_users,
    load_calibration_set,
)
from blendmask_quantize.pipeline.job import Job, asked_bounds
from blendmask_quantize.pipeline.observation import as_arrays, observation_of
from blendmask_quantize.pipeline.observed_images import Network, SentNetwork, observe_images
from blendmask_quantize.pipeline.quantized import Quantized
from blendmask_quantize.pipeline.refinement import as_arrays as refined_as_arrays
from blendmask_quantize.pipeline.refinement import refined_of
from blendmask_quantize.quantization.inputs import NetworkInputs
from blendmask_quantize.quantization.ptq import Calibrated, estimate
from blendmask_quantize.quantization.refine.steps import Given, Observed, Refined, refine
from blendmask_quantize.validation.channel_order import MOST, detection_scores, scores_both_ways
from blendmask_quantize.validation.drift import DriftCriterion

_CHANNEL_ORDER, _DETECTIONS, _OBSERVATION = "channel-order", "detections", "observation"
_REFINEMENT = "refinement"
"""Stages whose results are kept if the guard refuses them, or if the run ends before the bundle is written."""
_SCORES, _COUNTS = "scores", "counts"


def read_images(job: Job) -> CalibrationSet:
    """The calibration images, checked by the guard, also for the order of their channels.

    Raises:
        CalibrationError: the guard refuses them.
    """
    images = load_calibration_set(
        job.dataset, job.recipe.calibration, job.size, job.pad_value, job.progress, job.options.allow,
        held_out_limits(job),
    )  # fmt: skip
    stored = job.stage_results.load(_CHANNEL_ORDER)
    if stored is not None:
        given, swapped = json.loads(stored[_SCORES].item())
    else:
        on_image = job.progress("checking channel order", 2 * min(MOST, len(images.images)))
        given, swapped = scores_both_ways(job.graph(job.network), images.images, on_image)
    with job.stage_results.refusable(_CHANNEL_ORDER, lambda: {_SCORES: np.array(json.dumps((given, swapped)))}):
        return images.checked(check_channel_order(given, swapped), job.options.allow)


def held_out_limits(job: Job) -> HoldOut:
    """How many images are held out: more where average precision is measured on them."""
    return TO_COMPARE if job.recipe.max_drop is None else TO_MEASURE


def guard_detections(job: Job, images: CalibrationSet) -> CalibrationSet:
    """The images, checked by what the float network detects in them.

    Raises:
        CalibrationError: the network detects almost nothing.
    """
    stored = job.stage_results.load(_DETECTIONS)
    counts = stored[_COUNTS].tolist() if stored is not None else _count_instances(job, images)
    with job.stage_results.refusable(_DETECTIONS, lambda: {_COUNTS: np.array(counts)}):
        return images.checked(check_detections(counts), job.options.allow)


def _count_instances(job: Job, images: CalibrationSet) -> list[int]:
    """Number of instances that the float network detects in each image."""
    graph, on_step = job.graph(job.network), job.progress("looking for instances", len(images.images))
    counts = []
    for x in NetworkInputs(job.checkpoint.model, images.images):
        with torch.no_grad():
            counts.append(len(detection_scores(graph, job.network(x))))
        on_step()
    return counts


def calibrate(job: Job, images: CalibrationSet, *, checked: bool = False) -> Quantized:
    """Ranges from the images, refined by the steps of the job.

    Args:
        job: the float network.
        images: from `read_images`.
        checked: whether the guard has seen already what a network detects in them.

    Raises:
        CalibrationError: the network detects almost nothing.
    """
    stored = job.stage_results.load(_OBSERVATION)
    histograms, counts = observation_of(stored) if stored is not None else _observe(job, images)
    job.stage_results.save(_OBSERVATION, lambda: as_arrays(histograms, counts))
    if not checked:
        with job.stage_results.refusable(_OBSERVATION, lambda: as_arrays(histograms, counts)):
            images = images.checked(check_detections(counts), job.options.allow)
    observed = _estimate(job, images, histograms)
    refined = _refine(job, _begun(job, observed), images, keep=True)
    fullest = _original(job, images, int(np.argmax(counts)))
    return Quantized(job, refined.observed.calibrated, images, fullest, refined.outcomes, observed=observed)


def refine_again(quantized: Quantized, observed: Observed, calibrated: Calibrated) -> Quantized:
    """The network with the steps of the job taken anew, from other weights and ranges.

    Args:
        quantized: from `calibrate`.
        observed: of the same, before refinement.
        calibrated: the same network before refinement, with more layers in float.
    """
    start = replace(observed, calibrated=calibrated, reference=calibrated.traced)
    refined = _refine(quantized.job, Refined(start), quantized.images)
    return replace(quantized, calibrated=refined.observed.calibrated, refined=refined.outcomes)


def _original(job: Job, images: CalibrationSet, index: int) -> NDArray[np.uint8]:
    """An image as in its file; preprocessed where there is no file."""
    if job.dataset.folder is None:
        return images.images[index][0]
    return read_image(job.dataset.folder / images.record.images[index].name)


def _observe(job: Job, images: CalibrationSet) -> tuple[dict[str, Histogram], list[int]]:
    """Histograms of the tensors, and the number of instances that the float network detects in each image."""
    options, model = job.options, job.checkpoint.model
    executor = choose_executor(options.processes, options.ray)
    network: Network | SentNetwork = Network(model, job.network, job.graph(job.network))
    if not isinstance(executor, SerialExecutor):
        threads = worker_threads(options.processes, options.ray, None)
        network = SentNetwork(model, job.ignored_layers, job.size, asked_bounds(options), threads)
    with for_users():
        return observe_images(network, images.images, executor, job.progress("calibrating", len(images.images)))


def _estimate(job: Job, images: CalibrationSet, histograms: dict[str, Histogram]) -> Observed:
    with for_users():
        ranges = estimate(job.network, histograms, _given(job, images).first_estimator)
    return Observed(Calibrated(job.network, ranges), histograms, job.network)


def _given(job: Job, images: CalibrationSet) -> Given:
    return Given(NetworkInputs(job.checkpoint.model, images.images), job.recipe.calibration.estimator)


def _begun(job: Job, start: Observed) -> Refined:
    """The steps that an interrupted run of the same job took, none where there was none."""
    stored = job.stage_results.load(_REFINEMENT) if job.steps else None
    return Refined(start) if stored is None else refined_of(start, stored)


def _refine(job: Job, state: Refined, images: CalibrationSet, *, keep: bool = False) -> Refined:
    """Take the steps that are left, and keep those that bring the networks nearer to float on held-out images.

    Args:
        job: whose steps are taken.
        state: after none or some of the steps.
        images: the calibration images, and those held out.
        keep: whether the state after each step is written, for the same command to go on from.
    """
    if len(state.outcomes) == len(job.steps):
        return state
    start, on_step = state.observed, job.progress("refining", len(job.steps) - len(state.outcomes))

    def on_state(reached: Refined) -> None:
        if keep:
            job.stage_results.save(_REFINEMENT, lambda: refined_as_arrays(reached, job.network))
        on_step()

    criterion = DriftCriterion(job.predictor, start.reference, images.compared)
    with for_users():
        return refine(state, job.steps, _given(job, images), criterion, on_state)
