"""How a checkpoint is quantized, as a value. Importing this loads no torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from blendmask_quantize.pruning.options import PruneOptions
    from blendmask_quantize.quantization.qat.options import QatOptions

PathLike = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class QuantizeOptions:
    """What `quantize` does besides its recipe.

    Attributes:
        size: height and width of the network input, pixels; None takes the test size for a 4:3 image.
        detections: largest number of instances in an image, 1 to 100.
        count: largest number of calibration images.
        seed: of their sample.
        estimator: of ranges: "max", "percentile", "entropy", "mse", or "auto" for the best of them for each tensor.
        steps: names of the refinement steps; None takes the recipe's.
        ignored: layers that stay float: names of layers or of modules that hold them, globs, or compiled patterns.
        allow: codes of refusals of the calibration guard that are overridden.
        evaluation: folder of images and its COCO instances JSON to measure accuracy on; None measures none.
        annotations: COCO instances JSON of the calibration images, for recipes that train. None trains against the
            float network alone, which recipes that prune cannot do.
        iterations: training steps with quantizers; None takes 400.
        learning_rate: peak of those steps; None takes 5e-6.
        qat: all options of those steps, in place of both.
        macs: share of the multiply-accumulates that pruning keeps; None takes 0.7.
        prune_iterations: fine-tuning steps after pruning; None takes 1000.
        pruning: all options of pruning, in place of both.
        resume: go on where a run for the same output was interrupted.
        keep_float: leave the float graph in the bundle.
        license: SPDX name of the model's license.
    """

    size: tuple[int, int] | None = None
    detections: int = 100
    count: int = 128
    seed: int = 0
    estimator: str = "mse"
    steps: tuple[str, ...] | None = None
    ignored: tuple[str | re.Pattern[str], ...] = ()
    allow: tuple[str, ...] = ()
    evaluation: tuple[PathLike, PathLike] | None = None
    annotations: PathLike | None = None
    iterations: int | None = None
    learning_rate: float | None = None
    qat: QatOptions | None = None
    macs: float | None = None
    prune_iterations: int | None = None
    pruning: PruneOptions | None = None
    resume: bool = False
    keep_float: bool = False
    license: str = "unspecified"

    @property
    def annotation_files(self) -> list[PathLike]:
        """The annotations to train on and to measure on, as far as there are any."""
        measured = None if self.evaluation is None else self.evaluation[1]
        return [path for path in (self.annotations, measured) if path is not None]

    @property
    def trains(self) -> bool:
        """Whether any option applies only to recipes that train."""
        own = (self.annotations, self.iterations, self.learning_rate, self.qat)
        return self.resume or any(value is not None for value in own)

    @property
    def prunes(self) -> bool:
        """Whether any option applies only to recipes that prune."""
        return any(value is not None for value in (self.macs, self.prune_iterations, self.pruning))
