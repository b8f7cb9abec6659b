"""The stages of recipe `edge`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from blendmask_quantize.checkpoints.checkpoint import load_checkpoint
from blendmask_quantize.latency.network import latency_cost
from blendmask_quantize.pipeline.job import Job
from blendmask_quantize.pipeline.qat_stages import calibration_settings, image_folder, image_settings, train
from blendmask_quantize.pipeline.quantized import Quantized
from blendmask_quantize.pipeline.stages import calibrate, guard_detections, read_images
from blendmask_quantize.pruning.job import PruneReport, finished_pruning, prune, run_settings
from blendmask_quantize.pruning.options import PruneOptions
from blendmask_quantize.quantization.qat.data import QatData, check_apart, labeled_data
from blendmask_quantize.quantization.qat.options import QatOptions
from blendmask_quantize.runs.run_folder import PRUNED_FILE, RunFolder, Setting
from blendmask_quantize.training.coco_images import CocoImages
from blendmask_quantize.training.labeled_images import read_labeled_images


def run(job: Job, pruning: PruneOptions, options: QatOptions) -> Quantized:
    """Read, split, check the detections of the given network, prune, calibrate, refine, train."""
    folder = image_folder(job)
    annotations = Path(job.options.annotations or "")
    run_folder = RunFolder.beside(job.output, job.command, _settings(job, pruning, options))
    run_folder.check(resume=job.options.resume)
    data = labeled_data(folder, annotations, job.checkpoint, options)
    check_apart(data, folder, job.evaluation_paths)
    images = read_images(job)
    job.keep(run_folder)
    images = guard_detections(job, images)
    path, report = _prune(job, data, pruning, run_folder)
    thinned = job.of(load_checkpoint(path))
    start = calibrate(thinned, images, checked=True)
    trained = train(thinned, start, data, options, run_folder, teacher=job.checkpoint)
    return replace(trained, training={"pruning": report, **trained.training})


def check_labels(job: Job) -> None:
    """See that the annotations fit the images and the network.

    Raises:
        AnnotationError: they do not, or cannot be read.
        ConfigError: the images do not come from a folder.
    """
    read_labeled_images(image_folder(job), Path(job.options.annotations or ""), job.checkpoint.labels)


def _settings(job: Job, pruning: PruneOptions, options: QatOptions) -> dict[str, Setting]:
    """Settings that must be the same to resume a run; training with quantizers checks the rest itself."""
    return {
        **calibration_settings(job),
        **image_settings(job),
        **run_settings(job.checkpoint, pruning),
        "choice of held-out images": (
            f"{options.held_out_share} up to {options.held_out_most}, seed {options.training.seed}"
        ),
    }


def _prune(
    job: Job, data: QatData[CocoImages], options: PruneOptions, run_folder: RunFolder
) -> tuple[Path, PruneReport]:
    """Prune and fine-tune on the images that are not held out, or take the result of an earlier run."""
    path, sources = run_folder.path / PRUNED_FILE, [data.training]
    cost_of = latency_cost(job.checkpoint.model, job.size, options, job.progress)
    if path.exists():
        return path, finished_pruning(job.checkpoint, sources, path, options, cost_of)
    report = prune(job.checkpoint, sources, path, options, job.progress, resume=job.options.resume, cost_of=cost_of)
    return path, report
