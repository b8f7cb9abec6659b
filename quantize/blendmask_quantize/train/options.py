"""How a network is trained, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field

from blendmask_quantize.train.augment import Augmentation
from blendmask_quantize.train.balance import Balance
from blendmask_quantize.train.losses import LossOptions


@dataclass(frozen=True)
class TrainOptions:
    """A training run.

    Attributes:
        iterations: optimiser steps.
        batch: views a step and process.
        learning_rate: peak rate of everything but the trunk.
        trunk_rate: the trunk's rate over that.
        frozen_stages: how many stages of the trunk keep their weights, the stem counted first; None takes as many as
            the configuration says.
        frozen_norms: the trunk's normalisations keep statistics and weights; for training on from a trained network.
        weight_decay: of weights; normalisation and bias are not decayed.
        warmup: steps of linear increase of the rate, before a cosine to zero.
        clip: largest gradient norm.
        ema: decay of the averaged weights, which are what is saved at the end.
        precision: "bf16-mixed" where the machine is fast in it, else "32-true" (Lightning Fabric's names).
        workers: processes that prepare views.
        save_every: steps between checkpoints to resume from.
        seed: fixes views, initial weights and sampling.
        augmentation, losses, balance: how views vary; what is weighted how; which classes are shown more often.
    """

    iterations: int = 4000
    batch: int = 8
    learning_rate: float = 1e-3
    trunk_rate: float = 0.25
    frozen_stages: int | None = None
    frozen_norms: bool = False
    weight_decay: float = 0.02
    warmup: int = 200
    clip: float = 10.0
    ema: float = 0.998
    precision: str = "bf16-mixed"
    workers: int = 2
    save_every: int = 200
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    balance: Balance = field(default_factory=Balance)
    losses: LossOptions = field(default_factory=lambda: LossOptions(mask_positives=64))
