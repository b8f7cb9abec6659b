"""Recipe `ptq`: ranges from calibration images, refined without training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blendmask_quantize.pipeline.recipe import Recipe

if TYPE_CHECKING:
    from blendmask_quantize.pipeline.job import Job
    from blendmask_quantize.pipeline.quantized import Quantized


@dataclass(frozen=True)
class Ptq(Recipe):
    """8-bit weights and activations from calibration images, without training."""

    name = "ptq"
    version = "3"
    summary = "8-bit weights and activations from calibration images, without training"

    def run(self, job: Job) -> Quantized:
        """Read, calibrate, refine."""
        from blendmask_quantize.pipeline.stages import calibrate, read_images

        return calibrate(job, read_images(job))

    def stages(self) -> tuple[str, ...]:
        """Describe what `run` does, a line for each stage."""
        calibration = self.calibration
        read = f"read and check up to {calibration.count} calibration images, sampled with seed {calibration.seed}"
        return (read, f"estimate ranges: {calibration.estimator}", *(f"refine: {step}" for step in self.steps))
