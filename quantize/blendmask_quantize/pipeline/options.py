"""Options of `quantize`. Importing this module does not load torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from blendmask_quantize.pruning.options import PruneOptions
    from blendmask_quantize.quantization.qat.options import QatOptions

PathLike = Union[str, "os.PathLike[str]"]
CANDIDATES_MOST = 3840
"""Largest result of TopK in TensorRT."""


@dataclass(frozen=True)
class QuantizeOptions:
    """Options of `quantize`. Each is also a keyword argument of `quantize`.

    Attributes:
        size: height and width of the network input in pixels, multiples of 32; None takes the configuration's test
            size for a 4:3 image.
        detections: largest number of instances per image, 1 to 100.
        candidates: largest number of pairs of location and class that suppression compares, 1 to 3840; of more above
            the score threshold, those that score least are left out. Time and memory grow with its square.
        count: largest number of calibration images, 1 to 4096; None takes that of the recipe, which is 128.
        seed: seed of the calibration sample, 0 or more; None takes that of the recipe, which is 0.
        estimator: range estimator: "max", "percentile", "entropy", "mse", or "auto" for the best one per tensor; None
            takes that of the recipe, which is "mse".
        steps: names of refinement steps; None takes those of the recipe.
        ignored: layers that stay float besides those of the recipe: names of layers or modules, globs, or compiled
            patterns.
        max_drop: largest share of the float network's mask AP that may be lost, 0.001 or more and below 1, e.g. 0.01;
            layers go back to float until it holds on held-out images, in every graph. None takes that of the recipe,
            which sets no bound.
        max_float_macs: largest share of the multiply-accumulates that `max_drop` may leave in float; None takes that of
            the recipe, which is 0.5.
        allow: codes of refusals to override, e.g. "few-images".
        evaluation: folder of images and COCO instances JSON to measure accuracy on; None skips the measurement.
        arithmetic: measure the `tensorrt` graph in each arithmetic that a GPU may use too, on the images of
            `evaluation`; takes about four times as long as the evaluation alone.
        annotations: COCO instances JSON of the calibration images, for recipes that train and for `max_drop`. Required
            by "edge"; without them, "qat" learns from the float network alone, and `max_drop` compares with it.
        iterations: QAT steps; None takes those of the recipe, which are 400.
        learning_rate: peak learning rate of QAT; None takes that of the recipe, which is 5e-6.
        qat: all QAT options, instead of those of the recipe.
        teacher: checkpoint that "qat" learns from, such as that before pruning; None takes the quantized checkpoint.
            "edge" learns from the checkpoint before pruning anyway.
        macs: share of the multiply-accumulates that pruning keeps, 0 to 1; None takes that of the recipe,
            which is 0.7.
        parameters, latency: share that pruning keeps of the parameters or of the latency instead, 0 to 1.
        runtime: runtime that is timed for a share of the latency, "onnxruntime" or "openvino"; None takes that of the
            recipe.
        protect: layers that are not pruned, besides those of the recipe: names, globs, or `re:PATTERN`.
        prune_iterations: fine-tuning steps after pruning; None takes those of the recipe, which are 1000.
        pruning: all pruning options, instead of those of the recipe.
        resume: continue the interrupted run with the same output.
        keep_float: include the float graph in the bundle.
        torch_tensorrt: name of this device, as listed by `blendmask targets`: also compile the quantized network by
            Torch-TensorRT for the GPU here, straight from PyTorch, for the runtime "torch_tensorrt".
        license: SPDX name of the model's license.
        processes: number of processes that calibration images are observed in, 1 to 256; ranges are the same for any
            number.
        ray: address of a Ray cluster to observe them on instead, as for `evaluate`.

    Example:
        >>> from blendmask_quantize import QuantizeOptions
        >>> QuantizeOptions(size=(384, 512), count=64, ignored=("backbone.bottom_up.stem",)).count
        64
    """

    size: tuple[int, int] | None = None
    detections: int = 100
    candidates: int = 512
    count: int | None = None
    seed: int | None = None
    estimator: str | None = None
    steps: tuple[str, ...] | None = None
    ignored: tuple[str | re.Pattern[str], ...] = ()
    max_drop: float | None = None
    max_float_macs: float | None = None
    allow: tuple[str, ...] = ()
    evaluation: tuple[PathLike, PathLike] | None = None
    arithmetic: bool = False
    annotations: PathLike | None = None
    iterations: int | None = None
    learning_rate: float | None = None
    qat: QatOptions | None = None
    teacher: PathLike | None = None
    macs: float | None = None
    parameters: float | None = None
    latency: float | None = None
    runtime: str | None = None
    protect: tuple[str, ...] = ()
    prune_iterations: int | None = None
    pruning: PruneOptions | None = None
    resume: bool = False
    keep_float: bool = False
    torch_tensorrt: str | None = None
    license: str = "unspecified"
    processes: int = 1
    ray: str | None = None

    @property
    def annotation_files(self) -> list[PathLike]:
        """The annotation files for training and evaluation, if any."""
        measured = None if self.evaluation is None else self.evaluation[1]
        return [path for path in (self.annotations, measured) if path is not None]

    @property
    def trains(self) -> bool:
        """Whether an option is set that only recipes with training have."""
        own = (self.iterations, self.learning_rate, self.qat, self.teacher)
        return any(value is not None for value in own)

    @property
    def prunes(self) -> bool:
        """Whether an option is set that only recipes with pruning have."""
        own = (
            self.macs, self.parameters, self.latency, self.runtime, self.prune_iterations, self.pruning,
            self.protect or None,
        )  # fmt: skip
        return any(value is not None for value in own)
