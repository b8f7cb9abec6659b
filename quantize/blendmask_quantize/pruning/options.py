"""How a network is pruned and fine-tuned, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.runs.network_digest import network_digest
from blendmask_quantize.runs.run_folder import Setting
from blendmask_quantize.training.options import TrainOptions, with_short_warmup

RATIO = 0.7
ITERATIONS = 1000
LEARNING_RATE = 5e-4


def fine_tuning(options: TrainOptions) -> TrainOptions:
    """The options with warm-up and weight averaging that suit their number of iterations, however short."""
    return replace(with_short_warmup(options), ema=min(options.ema_decay, 1 - 10 / max(options.iterations, 20)))


@dataclass(frozen=True)
class PruneOptions:
    """What `prune` does.

    Attributes:
        ratio: share of the multiply-accumulates to keep.
        training: how the thinner network is fine-tuned; no iterations leave it as it is. How images vary is up to the
            images.
        batches: of labeled images that the importance of channels is measured on.
    """

    ratio: float = RATIO
    training: TrainOptions = field(
        default_factory=lambda: fine_tuning(TrainOptions(iterations=ITERATIONS, learning_rate=LEARNING_RATE))
    )
    batches: int = 8

    def settings(self, checkpoint: Checkpoint) -> dict[str, Setting]:
        """What a run can only be resumed with. The learning rate may change, as after a loss that was no number."""
        training = self.training
        return {
            "network": network_digest(checkpoint.model), "macs": self.ratio, "batches": self.batches,
            "fine-tuning iterations": training.iterations, "batch": training.batch, "seed": training.seed,
        }  # fmt: skip
