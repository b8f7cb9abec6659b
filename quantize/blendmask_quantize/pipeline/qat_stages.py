"""The stages of recipe `qat`, some of which `edge` shares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from blendmask_calibration.dataset import list_images
from blendmask_edge.errors import ConfigError
from blendmask_edge.evaluation.predictions import Predictor
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.pipeline.calibration_set import hold_out
from blendmask_quantize.pipeline.job import Job
from blendmask_quantize.pipeline.quantized import Quantized
from blendmask_quantize.pipeline.stages import calibrate, held_out_limits, read_images
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.qat.data import QatData, check_apart, labeled_data, unlabeled_data
from blendmask_quantize.quantization.qat.options import QatOptions
from blendmask_quantize.quantization.qat.trainer import run_qat
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.runs.run_folder import RunFolder, Setting
from blendmask_quantize.training.labeled_images import file_digest, listing_digest
from blendmask_quantize.validation.mask_criterion import MaskCriterion


def run(job: Job, options: QatOptions) -> Quantized:
    """Read, split, calibrate, refine, train."""
    folder = image_folder(job)
    run_folder = RunFolder.beside(job.output, job.command, calibration_settings(job) | image_settings(job))
    run_folder.check(resume=job.options.resume)
    data = _split(job, folder, options) if job.options.annotations is not None else None
    images = read_images(job)
    data = data or _split(job, folder, options)
    job.keep(run_folder)
    return train(job, calibrate(job, images), data, options, run_folder)


def _split(job: Job, folder: Path, options: QatOptions) -> QatData[Any]:
    """Images to train on and images held out, none of which accuracy is measured on."""
    data: QatData[Any]
    if job.options.annotations is not None:
        data = labeled_data(folder, Path(job.options.annotations), job.checkpoint, options)
    else:
        data = unlabeled_data(folder, job.checkpoint, _reference(job), options)
    check_apart(data, folder, job.evaluation_paths)
    return data


def _reference(job: Job) -> Predictor:
    """The predictor whose detections stand for labels: of the teacher, where there is one."""
    if job.teacher is None:
        return job.predictor(job.network)
    taught = replace(job, checkpoint=job.teacher)
    return taught.predictor(trace_network(job.teacher.model))


def image_folder(job: Job) -> Path:
    """The folder that calibration images are read from, and trained on.

    Raises:
        ConfigError: the calibration images do not come from a folder.
    """
    if job.dataset.folder is None:
        raise ConfigError(
            f"recipe {job.recipe.name} trains on image files, and the calibration images come from an iterable: give "
            "a folder, or use recipe ptq"
        )
    return job.dataset.folder


def calibration_settings(job: Job) -> dict[str, Setting]:
    """Settings that ranges depend on, which must be the same to resume a run."""
    calibration = job.recipe.calibration
    return {
        "calibration count": calibration.count,
        "calibration seed": calibration.seed,
        "estimator": calibration.estimator,
        "list of steps": ", ".join(step.name for step in job.steps),
        "list of ignored layers": ", ".join(job.ignored),
    }


def image_settings(job: Job) -> dict[str, Setting]:
    """The image files of the folder, and their annotations, for a run to be resumed with the same.

    Raises:
        AnnotationError: the annotations cannot be read.
    """
    folder = image_folder(job)
    listing = listing_digest((path.relative_to(folder).as_posix(), path.stat().st_size) for path in list_images(folder))
    if job.options.annotations is None:
        return {"image folder": listing}
    return {"image folder": listing, "annotations file": file_digest(Path(job.options.annotations))}


def train(
    job: Job, start: Quantized, data: QatData[Any], options: QatOptions, run_folder: RunFolder,
    teacher: Checkpoint | None = None,
) -> Quantized:  # fmt: skip
    """Train with quantizers in place, and keep the better of both.

    Args:
        job: of the network that is trained.
        start: calibrated and refined.
        data: to train on and to evaluate on.
        options: how to train.
        run_folder: for the state of training.
        teacher: network to learn from; None takes that of the job, or the float network.
    """
    on_step = job.progress("training with quantization", options.training.iterations)
    on_image = job.progress("evaluating on held-out images", 2 * len(VARIANTS) * len(data.held_out.ids))
    criterion = MaskCriterion(job.predictor, data.held_out, on_image)
    result = run_qat(
        job.checkpoint, start.calibrated, data, criterion, options, run_folder.path, resume=job.options.resume,
        on_step=lambda *_: on_step(), teacher=teacher or job.teacher,
    )  # fmt: skip
    most = held_out_limits(job).most
    images = hold_out(start.images, data.held_out.paths, image_folder(job), job.size, job.pad_value, most)
    return start.trained("qat", result, images, result.calibrated)
