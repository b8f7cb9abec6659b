"""The result of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from blendmask_quantize.pipeline.calibration_set import CalibrationSet
from blendmask_quantize.pipeline.job import Job
from blendmask_quantize.pipeline.settings import CalibrationSettings
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.refine.steps import Observed, Outcome


class TrainingReport(Protocol):
    """The result of pruning, of training with quantizers, or of a bound on the drop of accuracy."""

    def record(self) -> dict[str, Any]:
        """The entry of the manifest, in JSON's types."""

    def __str__(self) -> str:
        """The result in a sentence."""


@dataclass(frozen=True)
class Quantized:
    """A quantized network, ready to be exported.

    Attributes:
        job: of the network that was quantized, which after pruning is not the given one.
        calibrated: its weights and ranges.
        images: the calibration images, checked.
        fullest: the image with most instances, uint8 (H, W, 3) RGB; as in its file where it has one.
        refined: result of each refinement step.
        training: results of pruning, training and a bound on the drop, by name; empty where there is none of them.
        observed: network and ranges before refinement; None once the network is trained.
    """

    job: Job
    calibrated: Calibrated
    images: CalibrationSet
    fullest: NDArray[np.uint8]
    refined: tuple[Outcome, ...]
    training: Mapping[str, TrainingReport] = field(default_factory=dict)
    observed: Observed | None = None

    def trained(self, name: str, report: TrainingReport, images: CalibrationSet, calibrated: Calibrated) -> Quantized:
        """The network after a training."""
        training = {**self.training, name: report}
        return replace(self, calibrated=calibrated, images=images, training=training, observed=None)

    def recipe_options(self) -> dict[str, Any]:
        """The options that were not the default and the results of each stage, for the manifest."""
        estimator = self.job.recipe.calibration.estimator
        changed: dict[str, Any] = {} if estimator == CalibrationSettings.estimator else {"estimator": estimator}
        if self.job.ignored:
            changed["ignored"] = list(self.job.ignored)
        changed["steps"] = {outcome.name: outcome.record() for outcome in self.refined}
        return changed | {name: report.record() for name, report in self.training.items()}
