"""Recipe `qat`: `ptq`, then training with its quantizers in place, the float network as teacher."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from blendmask_quantize.pipeline.options import QuantizeOptions
from blendmask_quantize.pipeline.recipes.ptq import Ptq
from blendmask_quantize.quantization.qat.options import QatOptions
from blendmask_quantize.training.options import with_short_warmup

if TYPE_CHECKING:
    from typing_extensions import Self

    from blendmask_quantize.pipeline.job import Job
    from blendmask_quantize.pipeline.quantized import Quantized


@dataclass(frozen=True)
class Qat(Ptq):
    """`Ptq`, then trained with its quantizers in place, the float network as teacher.

    Attributes:
        qat: options of the training.
    """

    name = "qat"
    version = "3"
    summary = "ptq, then trained with its quantizers in place, the float network as teacher"
    trains = True

    qat: QatOptions = field(default_factory=QatOptions)

    def run(self, job: Job) -> Quantized:
        """Read, split, calibrate, refine, train."""
        from blendmask_quantize.pipeline.qat_stages import run

        return run(job, self.qat)

    def stages(self) -> tuple[str, ...]:
        """Describe what `run` does, a line for each stage."""
        training = self.qat.training
        amount = f"{training.iterations} steps of {training.batch} augmented images"
        train = f"train with quantizers: {amount}, learning rate {training.learning_rate:g}"
        return (*super().stages(), f"{train}; used if held-out images show a gain beyond chance")

    def overridden(self, options: QuantizeOptions) -> Self:
        """Return the recipe with the options that are given in place of its own settings."""
        qat = self.qat if options.qat is None else options.qat
        given = {"iterations": options.iterations, "learning_rate": options.learning_rate}
        training = replace(qat.training, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        if options.qat is None:
            training = with_short_warmup(training)
        return replace(super().overridden(options), qat=replace(qat, training=training))
