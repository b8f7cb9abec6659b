"""Recipe `ptq`: ranges from calibration images, refined without training."""

from __future__ import annotations

from blendmask_quantize.pipeline.job import Job
from blendmask_quantize.pipeline.quantized import Quantized
from blendmask_quantize.pipeline.stages import calibrate, read_images


def run(job: Job) -> Quantized:
    """Read, calibrate, refine."""
    return calibrate(job, read_images(job))
