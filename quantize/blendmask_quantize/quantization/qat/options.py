"""How a quantized network is trained, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from blendmask_quantize.training.distill_weights import DistillWeights
from blendmask_quantize.training.options import TrainOptions, with_short_warmup

ITERATIONS = 400
LEARNING_RATE = 5e-6
"""AdamW moves every weight by about this much a step: rounding asks for little, and 2e-5 undoes more than it costs."""


def _training() -> TrainOptions:
    return TrainOptions(
        iterations=ITERATIONS, learning_rate=LEARNING_RATE, backbone_rate=1.0, weight_decay=0.0, warmup=20, ema=0.99,
        precision="32-true", workers=1, save_every=50,
    )  # fmt: skip


@dataclass(frozen=True)
class QatOptions:
    """Training with quantization.

    Attributes:
        training: schedule, augmentation and the weights of the losses against labels. Rounding needs float32.
        variants: whose rounding is trained against; several take turns, a step each.
        frozen_stages: how many stages of the backbone keep their weights, the stem counted first; None takes as many as
            the configuration freezes in ordinary training.
        range_rate: learning rate of the logarithms of the ranges over that of the weights.
        label_weight: factor of the losses against labels, where there are labels. At 1 they drown the teacher's.
        distill: factors of the losses against the float network.
        held_out_share, held_out_least, held_out_most: share of the images, and how many at least and at most, that
            evaluate the result instead of training it; never more than two in five.
    """

    training: TrainOptions = field(default_factory=_training)
    variants: tuple[str, ...] = ("tensorrt", "cpu")
    frozen_stages: int | None = None
    range_rate: float = 20.0
    label_weight: float = 0.1
    distill: DistillWeights = field(default_factory=DistillWeights)
    held_out_share: float = 0.125
    held_out_least: int = 16
    held_out_most: int = 80


def schedule(iterations: int | None = None, learning_rate: float | None = None) -> QatOptions:
    """The default options, with another number of steps or peak learning rate where given."""
    options = QatOptions()
    training = replace(
        options.training,
        iterations=options.training.iterations if iterations is None else iterations,
        learning_rate=options.training.learning_rate if learning_rate is None else learning_rate,
    )
    return replace(options, training=with_short_warmup(training))
