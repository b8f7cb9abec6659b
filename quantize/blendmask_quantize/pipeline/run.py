"""The line from a job to a bundle with its measured accuracy."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from blendmask_edge.benchmark.side_by_side import speedup
from blendmask_edge.bundle.manifest import Manifest
from blendmask_edge.bundle.writer import write_bundle
from blendmask_edge.errors import BlendMaskError, BundleError, OutputError
from blendmask_quantize.export.bundle import Measured, with_graphs, with_measured
from blendmask_quantize.pipeline.calibration_set import read_frames
from blendmask_quantize.pipeline.candidate import CPU, FLOAT, TENSORRT, Candidate
from blendmask_quantize.pipeline.comparison import compared
from blendmask_quantize.pipeline.ground_truth import check_labels
from blendmask_quantize.pipeline.job import Job
from blendmask_quantize.pipeline.max_drop import hold_drop
from blendmask_quantize.pipeline.recipe import Recipe
from blendmask_quantize.pipeline.report import Report, VariantReport, how_to_measure
from blendmask_quantize.runs.run_folder import RunFolder
from blendmask_quantize.validation.measure import Accuracy, measure_accuracy, measure_arithmetic, measure_latency

Frames = list[NDArray[np.uint8]]
Latency = Mapping[str, list[float]]
"""Milliseconds of the same frames, by variant."""

_STAGE = "candidate"


def run(recipe: Recipe, job: Job) -> Report:
    """Quantize by a recipe, write the bundle, measure it and write what was measured.

    Args:
        recipe: the recipe of the job.
        job: what to quantize.

    Raises:
        CalibrationError: the guard refuses the images, or the quantized network.
        AnnotationError: the evaluation data are trained on, or the labels to train on do not fit.
        CheckpointError: an unfinished run lies beside the output, or one of other options is to be resumed.
        DivergedError: a loss of training is not finite.
        ParityError: an exported graph disagrees with the network.
        OutputError: the bundle cannot be written.
        KeyboardInterrupt: the user interrupts; the message says what is there, and how to go on.
    """
    with RunFolder.beside(job.output, job.command).telling_how_to_go_on(), job.resources:
        candidate, frames = _candidate(recipe, job)
        with job.stage_results.refusable(_STAGE, candidate.to_arrays):
            candidate = candidate.checked(job.options.allow)
        _deliver(job, candidate)
    job.clear()
    latency, accuracy = _measure(job, candidate, frames)
    return replace(_report(job, candidate, accuracy, latency), **_compiled(job, candidate))


def _candidate(recipe: Recipe, job: Job) -> tuple[Candidate, Frames]:
    """The candidate that a refused run of the same job kept, else a new one; and frames to time it on."""
    stored = job.stage_results.load(_STAGE)
    if stored is not None:
        try:
            candidate = Candidate.from_arrays(stored)
            if job.device is None or candidate.program:
                return candidate, read_frames(job.dataset, job.recipe.calibration)
        except (BundleError, KeyError, ValueError, msgspec.MsgspecError):
            pass  # of another release: made anew
    recipe.check(job)
    if job.recipe.max_drop is not None and not job.recipe.trains:  # recipes that train check their labels
        check_labels(job.checkpoint, job.dataset, job.options.annotations)
    quantized = hold_drop(recipe.run(job))
    return compared(quantized), quantized.images.frames


def _manifest(job: Job, candidate: Candidate, accuracy: Accuracy) -> Manifest:
    fidelity = {name: comparison.record() for name, comparison in candidate.account.fidelity.items()}
    measured = Measured(accuracy.measurements, fidelity, accuracy.arithmetic)
    if accuracy.display is not None:
        measured = replace(
            measured, display_threshold=accuracy.display.score, display_measurement=accuracy.display_measurement
        )
    manifest = with_graphs(candidate.manifest, candidate.shipped)
    return with_measured(manifest, measured, candidate.account.calibration.record, job.options.license)


def _deliver(job: Job, candidate: Candidate) -> None:
    """Write the bundle, to a temporary folder if it cannot be written where it belongs after all.

    Raises:
        OutputError: it cannot; the message says where it is instead.
    """
    manifest, graphs = _manifest(job, candidate, Accuracy()), candidate.shipped
    try:
        write_bundle(job.output, manifest, graphs)
    except OutputError as error:
        folder = Path(tempfile.mkdtemp(prefix="blendmask-"))
        try:
            path = write_bundle(folder / job.output.name, manifest, graphs)
        except OutputError:
            folder.rmdir()
            raise error from None
        raise OutputError(f"{error} The finished bundle is in {path}: move it where you want it.") from error


def _measure(job: Job, candidate: Candidate, frames: Frames) -> tuple[Latency, Accuracy]:
    """Time and accuracy of the graphs, added to the bundle. Whatever goes wrong here must not cost the bundle.

    Raises:
        KeyboardInterrupt: the user interrupts; the message says that the bundle is there.
    """
    latency: Latency = {}
    accuracy = Accuracy()
    try:
        with candidate.scratch_bundle() as path:
            latency = measure_latency(path, (FLOAT, CPU), frames)
            for evaluation in job.evaluation:
                accuracy = measure_accuracy(path, list(candidate.graphs), CPU, evaluation, job.progress)
                if job.options.arithmetic:
                    graph = candidate.graphs[TENSORRT]
                    measurements = measure_arithmetic(candidate.manifest, graph, evaluation, job.progress)
                    accuracy = replace(accuracy, arithmetic=measurements)
        if job.evaluation:
            write_bundle(job.output, _manifest(job, candidate, accuracy), candidate.shipped)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"interrupted while it was measured: {how_to_measure(job.output)}") from error
    except Exception as error:
        accuracy = Accuracy(failure=str(error) or type(error).__name__)
    return latency, accuracy


def _compiled(job: Job, candidate: Candidate) -> dict[str, Any]:
    """Fields of the report on the program for this device. Whatever goes wrong here must not cost the bundle."""
    if job.device is None:
        return {}
    on_step = job.progress("compiling", 1)
    try:
        program = job.device.compile(candidate.program, job.output)
    except BlendMaskError as error:
        return {"not_compiled": str(error)}
    on_step()
    return {"program": program}


def _report(job: Job, candidate: Candidate, accuracy: Accuracy, latency: Latency) -> Report:
    account = candidate.account
    variants = {
        name: VariantReport(
            len(data),
            account.parities[name],
            accuracy.metrics(name),
            statistics.median(latency[name]) if name in latency else None,
            account.fidelity.get(name),
        )
        for name, data in candidate.graphs.items()
    }
    return Report(
        job.output, variants, speedup(latency, FLOAT, CPU) if latency else math.nan, account.calibration,
        account.refined, account.training, accuracy.display, accuracy.arithmetic, accuracy.failure,
    )  # fmt: skip
