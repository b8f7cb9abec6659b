"""How a network is trained, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from blendmask_quantize.model.config import unknown_name
from blendmask_quantize.training.augment import Augmentation
from blendmask_quantize.training.losses import LossOptions
from blendmask_quantize.training.sampling import SamplingOptions

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "steps")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class TrainOptions:
    """A training run.

    Attributes:
        iterations: optimizer steps.
        batch: augmented images a step and process.
        optimizer: "adamw" or "sgd".
        momentum: of SGD.
        learning_rate: peak rate of everything but the backbone.
        backbone_rate: the backbone's rate over that.
        frozen_stages: how many stages of the backbone keep their weights, the stem counted first; None takes as many as
            the configuration says.
        frozen_norms: the backbone's normalizations keep statistics and weights; for training on from a trained network.
        weight_decay: of weights; normalizations are not decayed, biases with SGD only.
        schedule: "cosine" to zero, or "steps", a tenth after each milestone.
        milestones: shares of the iterations.
        warmup: steps of linear increase of the rate.
        clip: largest gradient norm; 0 does not clip.
        ema: decay of the averaged weights, which are what is saved at the end; 0 saves the last ones.
        precision: a name of Lightning Fabric's, or "auto": mixed where the device is quick in it, else "32-true".
        devices: processes on each node, one a device.
        nodes: machines.
        tensorboard: write the losses for TensorBoard as well.
        workers: processes that load and augment images.
        save_every: steps between checkpoints to resume from.
        seed: fixes augmentation, initial weights and sampling.
        augmentation, losses, sampling: how images vary, how losses are weighted, which classes are shown more often.
    """

    iterations: int = 4000
    batch: int = 8
    optimizer: str = "adamw"
    momentum: float = 0.9
    learning_rate: float = 1e-3
    backbone_rate: float = 0.25
    frozen_stages: int | None = None
    frozen_norms: bool = False
    weight_decay: float = 0.02
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (0.78, 0.93)
    warmup: int = 200
    clip: float = 10.0
    ema: float = 0.998
    precision: str = "auto"
    devices: int = 1
    nodes: int = 1
    tensorboard: bool = False
    workers: int = 2
    save_every: int = 200
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    losses: LossOptions = field(default_factory=lambda: LossOptions(mask_positives=64))

    def __post_init__(self) -> None:
        """Refuse unknown names.

        Raises:
            ConfigError: no optimizer, schedule or precision of that name.
        """
        for kind, name, known in (
            ("optimizer", self.optimizer, OPTIMIZERS), ("schedule", self.schedule, SCHEDULES),
            ("precision", self.precision, PRECISIONS),
        ):  # fmt: skip
            if name not in known:
                raise unknown_name(kind, name, known)

    @property
    def processes(self) -> int:
        """Processes on all nodes."""
        return self.devices * self.nodes

    @property
    def augmented_images(self) -> int:
        """Augmented images in the whole run, of all processes."""
        return self.iterations * self.batch * self.processes


def with_short_warmup(options: TrainOptions) -> TrainOptions:
    """The options with a warm-up of a tenth of their iterations at most."""
    return replace(options, warmup=min(options.warmup, max(options.iterations // 10, 1)))
