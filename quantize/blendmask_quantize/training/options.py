"""How a network is trained, as a value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import check_name
from blendmask_quantize.training.augment import Augmentation
from blendmask_quantize.training.loss_options import LossOptions
from blendmask_quantize.training.option_checks import check_number, check_whole
from blendmask_quantize.training.sampling import SamplingOptions

DEFAULT_CONFIG = "LITE0_RT"
"""The configuration to train where neither a configuration nor a checkpoint is given."""
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "steps")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")

_WARMUP, _EMA = 200, 0.998
_OPTIONAL = ("frozen_stages", "warmup", "ema")
_BOUNDS = {
    "iterations": (0, 10**9), "batch": (1, 2**14), "frozen_stages": (0, 100), "warmup": (0, 10**9),
    "devices": (1, 2**10), "nodes": (1, 2**16), "workers": (0, 2**10), "save_every": (1, 10**9),
    "seed": (0, 2**63 - 1),
}  # fmt: skip
_RANGES = {
    "momentum": (0, 1), "learning_rate": (0, math.inf), "backbone_rate": (0, math.inf), "weight_decay": (0, math.inf),
    "clip": (0, math.inf), "ema": (0, 1),
}  # fmt: skip


_TYPES: dict[str, type] = {
    "tensorboard": bool, "augmentation": Augmentation, "sampling": SamplingOptions, "losses": LossOptions,
}  # fmt: skip


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
        warmup: steps of linear increase of the rate; None takes a tenth of the iterations, 200 at most.
        clip: largest gradient norm; 0 does not clip.
        ema: decay of the averaged weights, which are saved at the end; 0 saves the last ones. None takes 0.998, less in
            runs of fewer than 4000 iterations, so that the average spans an eighth of them.
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
    warmup: int | None = None
    clip: float = 10.0
    ema: float | None = None
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
        """Refuse unknown names and numbers out of range.

        Raises:
            ConfigError: there is no optimizer, schedule or precision of that name, or an option is out of range or of
                another type.
        """
        for kind, name, known in (
            ("optimizer", self.optimizer, OPTIMIZERS), ("schedule", self.schedule, SCHEDULES),
            ("precision", self.precision, PRECISIONS),
        ):  # fmt: skip
            check_name(kind, name, known)
        for name, wanted in _TYPES.items():
            if not isinstance(getattr(self, name), wanted):
                raise ConfigError(f"{name} is {getattr(self, name)!r:.80}: give a value of type {wanted.__name__}")
        for name in (*_BOUNDS, *_RANGES):
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            is_whole = name in _BOUNDS
            number = check_whole(name, value, *_BOUNDS[name]) if is_whole else check_number(name, value, *_RANGES[name])
            object.__setattr__(self, name, number)

    def check_learns(self) -> None:
        """Refuse a schedule after which the saved weights are those that the run began with, or nearly so.

        Raises:
            ConfigError: no iterations, no learning rate, or a warm-up or an average of weights as long as the run.
        """
        if self.iterations < 1:
            raise ConfigError(f"iterations is {self.iterations}: give at least 1")
        if not self.learning_rate:
            raise ConfigError("learning_rate is 0, no weight would change: give a positive one, e.g. 1e-3")
        if self.warmup_steps >= self.iterations:
            raise ConfigError(
                f"a warm-up of {self.warmup_steps} steps in a run of {self.iterations}: the learning rate would never "
                "be reached; give more iterations, a shorter warm-up, or leave it out"
            )
        span = 1 / (1 - self.ema_decay)
        if span > self.iterations:
            raise ConfigError(
                f"an ema of {self.ema_decay:g} averages the weights of about {span:.0f} steps, the run has "
                f"{self.iterations}: the saved weights would be those of its beginning; give more iterations, a "
                "smaller ema, or leave it out"
            )

    @property
    def warmup_steps(self) -> int:
        """Steps of linear increase of the rate."""
        return min(_WARMUP, self.iterations // 10) if self.warmup is None else self.warmup

    @property
    def ema_decay(self) -> float:
        """Decay of the averaged weights."""
        return min(_EMA, max(0.0, 1 - 8 / max(self.iterations, 1))) if self.ema is None else self.ema

    @property
    def processes(self) -> int:
        """Processes on all nodes."""
        return self.devices * self.nodes

    @property
    def augmented_images(self) -> int:
        """Augmented images in the whole run, of all processes."""
        return self.iterations * self.batch * self.processes


DISTILLATION = TrainOptions(
    iterations=2000, backbone_rate=1.0, frozen_stages=0, augmentation=Augmentation(paste=0.0)
)  # fmt: skip
"""How a new network learns from a teacher: all of it at one rate, from images without instances to paste."""


def with_short_warmup(options: TrainOptions) -> TrainOptions:
    """Return the options with a warm-up of a tenth of their iterations at most."""
    warmup = _WARMUP if options.warmup is None else options.warmup
    return replace(options, warmup=min(warmup, max(options.iterations // 10, 1)))


def resolved(options: TrainOptions) -> TrainOptions:
    """Return the options with numbers in place of what follows from others."""
    return replace(options, warmup=options.warmup_steps, ema=options.ema_decay)
