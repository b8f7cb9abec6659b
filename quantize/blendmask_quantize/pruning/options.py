"""Options of pruning and fine-tuning, as values that load no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from blendmask_quantize.training.options import TrainOptions, with_short_warmup

RATIO = 0.7
ITERATIONS = 1000
LEARNING_RATE = 5e-4


def fine_tuning(options: TrainOptions) -> TrainOptions:
    """Return the options with warm-up and weight averaging adapted to the number of iterations."""
    return replace(with_short_warmup(options), ema=min(options.ema_decay, 1 - 10 / max(options.iterations, 20)))


@dataclass(frozen=True)
class PruneOptions:
    """Options of `prune`.

    Attributes:
        ratio: share of the multiply-accumulates to keep, 0 to 1.
        training: options of the fine-tuning; `iterations=0` skips it.
        batches: number of batches of labeled images on which the importance of channels is measured.
    """

    ratio: float = RATIO
    training: TrainOptions = field(
        default_factory=lambda: fine_tuning(TrainOptions(iterations=ITERATIONS, learning_rate=LEARNING_RATE))
    )
    batches: int = 8
