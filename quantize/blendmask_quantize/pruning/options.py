"""Options of pruning and fine-tuning, as values that load no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

import msgspec

from blendmask_edge.arguments.values import is_number
from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.config import check_name
from blendmask_quantize.training.option_checks import check_whole
from blendmask_quantize.training.options import TrainOptions, with_short_warmup

RATIO = 0.7
ITERATIONS = 1000
LEARNING_RATE = 5e-4
MACS, PARAMETERS, LATENCY = TARGETS = ("macs", "parameters", "latency")
TAYLOR, MAGNITUDE, BN_SCALE = IMPORTANCES = ("taylor", "magnitude", "bn_scale")
PATTERN = "2:4"
TIMED_RUNTIMES = ("onnxruntime", "openvino")
UNTIMED_RUNTIME = "--runtime names what --latency times: give --latency too, or leave it out"
NOUNS = {MACS: "multiply-accumulates", PARAMETERS: "parameters", LATENCY: "latency"}


def fine_tuning(options: TrainOptions) -> TrainOptions:
    """Return the options with warm-up and weight averaging adapted to the number of iterations."""
    return replace(with_short_warmup(options), ema=min(options.ema_decay, 1 - 10 / max(options.iterations, 20)))


@dataclass(frozen=True)
class PruneOptions:
    """Options of `prune`.

    Attributes:
        ratio: share of the target to keep, 0 to 1.
        training: options of the fine-tuning; `iterations=0` skips it.
        batches: number of batches of labeled images on which the importance of channels is measured.
        target: what is reduced: "macs" (multiply-accumulates), "parameters", or "latency", the time of the INT8 graph
            on this machine, predicted from measured times of its layers.
        runtime: for "latency", the runtime that is timed: "onnxruntime" or "openvino".
        importance: estimate by which channels are chosen: "taylor" (first-order change of the loss), "magnitude" (of
            the weights) or "bn_scale" (factors of the normalizations).
        multiple: channels come in multiples of this; None takes 8, and for "latency" the multiple that is fastest here.
            Groups of fewer than three times as many channels are pruned by 8.
        protect: layers that keep all their channels and weights: names, globs, or `re:PATTERN`.
        depth: residual blocks are dropped while the loss, before fine-tuning, rises by no more than this share of it,
            e.g. 0.02; 0 keeps them all.
        rounds: in how many rounds channels are removed, each followed by its share of the fine-tuning steps.
        distill: fine-tune with the network before pruning as teacher, besides the labels.
        sparsity: "2:4" sets two of each four weights to neighboring input channels to zero and keeps them there; None
            leaves weights dense.
    """

    ratio: Annotated[float, msgspec.Meta(gt=0, le=1)] = RATIO
    training: TrainOptions = field(
        default_factory=lambda: fine_tuning(TrainOptions(iterations=ITERATIONS, learning_rate=LEARNING_RATE))
    )
    batches: int = 8
    target: str = MACS
    runtime: str = TIMED_RUNTIMES[0]
    importance: str = TAYLOR
    multiple: int | None = None
    protect: tuple[str, ...] = ()
    depth: float = 0.0
    rounds: int = 1
    distill: bool = False
    sparsity: str | None = None

    def __post_init__(self) -> None:
        """Refuse unknown names and impossible numbers.

        Raises:
            ConfigError: there is not a target, runtime or importance of that name, or a number is out of range.
        """
        check_name("target", self.target, TARGETS)
        check_name("importance", self.importance, IMPORTANCES)
        if self.runtime not in TIMED_RUNTIMES:
            raise ConfigError(
                f"runtime is {self.runtime!r}, expected {' or '.join(TIMED_RUNTIMES)}, which time layers on the CPU of "
                "this machine: for other devices, prune to a share of macs and measure the bundle there with "
                "`blendmask bench`"
            )
        if self.sparsity is not None:
            check_name("sparsity", self.sparsity, (PATTERN,))
        for name in ("batches", "rounds", "multiple"):
            if name != "multiple" or self.multiple is not None:
                object.__setattr__(self, name, check_whole(name, getattr(self, name), 1))
        if 0 < self.training.iterations < self.rounds:
            raise ConfigError(
                f"rounds is {self.rounds}, more than the {self.training.iterations} fine-tuning iterations: give fewer "
                "rounds, or one iteration at least for each"
            )
        if not is_number(self.depth, 0, 1) or self.depth == 1:
            raise ConfigError(f"depth is {self.depth!r}: give a share of the loss of at least 0 and less than 1")
        if not isinstance(self.distill, bool):
            raise ConfigError(f"distill is {self.distill!r}: give True or False")

    def share(self, number: int) -> float:
        """Return the share of the target that round `number` of 1 to `rounds` leaves of the whole network."""
        return 1 - (1 - self.ratio) * number / self.rounds

    @property
    def training_of_a_round(self) -> TrainOptions:
        """The options of the fine-tuning of one round."""
        if self.rounds == 1 or not self.training.iterations:
            return self.training
        return fine_tuning(replace(self.training, iterations=max(1, self.training.iterations // self.rounds)))

    @property
    def what(self) -> str:
        """The target in words."""
        return NOUNS[self.target]


def with_target(
    options: PruneOptions, macs: float | None = None, parameters: float | None = None, latency: float | None = None
) -> PruneOptions:
    """Return the options with the one target that is given, if any.

    Args:
        options: of pruning.
        macs, parameters, latency: shares to keep, 0 to 1.

    Raises:
        ConfigError: more than one is given.
    """
    given = {MACS: macs, PARAMETERS: parameters, LATENCY: latency}
    targets = {target: ratio for target, ratio in given.items() if ratio is not None}
    if len(targets) > 1:
        raise ConfigError(f"{' and '.join(targets)} are both given: a network is pruned to one of them")
    for target, ratio in targets.items():
        options = replace(options, target=target, ratio=ratio)
    return options
