"""Refinement without training: named steps, each kept only where images that gave no ranges say that it helps."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx

from blendmask_calibration.estimators import AUTO, competing
from blendmask_calibration.histogram import Histogram
from blendmask_quantize.quantization.ptq import Calibrated, estimate, observe, rounded_tensors
from blendmask_quantize.quantization.refine.adaround import AdaRound
from blendmask_quantize.quantization.refine.bias_correction import correct_biases
from blendmask_quantize.quantization.refine.coordinate_descent import CoordinateDescent
from blendmask_quantize.quantization.refine.cross_layer_equalization import equalize
from blendmask_quantize.quantization.refine.names import check_step_names
from blendmask_quantize.quantization.refine.rounding import Find, Sampling, find_roundings
from blendmask_quantize.quantization.refine.selection import FIRST, choose_ranges

RANGES = "ranges"
"""The step that the estimator "auto" stands for; it is asked for by that estimator, not by name."""
BY_TENSOR = "by_tensor"
"""Key of the details of each tensor, which are too long for a manifest."""
_PIXELS = 3_000_000
_FEWEST, _MOST = 2, 16
MASK_TOLERANCE = 0.0005
"""How much mask IoU a step may cost, whatever it does for boxes and scores."""


@dataclass(frozen=True)
class Drift:
    """How far a quantized network is from the float one, mean over instances and variants; 0 means no difference.

    Attributes:
        masks, boxes: 1 - IoU of the masks and of the boxes of the same instance.
        scores: absolute difference of its scores.
    """

    masks: float
    boxes: float
    scores: float

    @property
    def total(self) -> float:
        """The sum of all three."""
        return self.masks + self.boxes + self.scores

    def record(self) -> dict[str, float]:
        """The fields, to five digits."""
        return {name: round(value, 5) for name, value in vars(self).items()}

    def improves(self, before: Drift) -> bool:
        """Whether it is less than `before`, and the masks, which boxes say nothing about, have not paid for it."""
        return self.total < before.total and self.masks <= before.masks + MASK_TOLERANCE


Criterion = Callable[[Calibrated], Drift | None]
"""Measures what is rendered of weights and ranges on held-out images; None where these show no instance."""


@dataclass(frozen=True)
class Observed:
    """A network between steps.

    Attributes:
        calibrated: weights and ranges.
        histograms: that the ranges were estimated from.
        reference: the float network to agree with, node for node and channel for channel that of `calibrated`.
    """

    calibrated: Calibrated
    histograms: Mapping[str, Histogram]
    reference: fx.GraphModule


@dataclass(frozen=True)
class Given:
    """The inputs of the steps.

    Attributes:
        inputs: normalized images (1, 3, H, W) that give the ranges.
        estimator: name of a range estimator, or "auto".
        adaround, coordinate_descent: how roundings are chosen.
        sampling: what they are chosen from.
    """

    inputs: Sequence[Tensor]
    estimator: str
    adaround: AdaRound = field(default_factory=AdaRound)
    coordinate_descent: CoordinateDescent = field(default_factory=CoordinateDescent)
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def first_estimator(self) -> str:
        """The estimator of ranges where none has been chosen for each tensor."""
        return FIRST if self.estimator == AUTO else self.estimator

    @property
    def few(self) -> list[Tensor]:
        """As many of the images as a step can look at together."""
        pixels = self.inputs[0].shape[-2] * self.inputs[0].shape[-1]
        count = min(max(_PIXELS // pixels, _FEWEST), _MOST, len(self.inputs))
        return [self.inputs[index] for index in range(count)]


@dataclass(frozen=True)
class Step:
    """A way to refine.

    Attributes:
        name: what a user types.
        summary: one line for a user.
        run: what it does; with the result come numbers worth remembering.
    """

    name: str
    summary: str
    run: Callable[[Observed, Given], tuple[Observed, dict[str, Any]]]


@dataclass(frozen=True)
class Outcome:
    """The result of a step.

    Attributes:
        name: of the step.
        kept: whether its result was.
        before, after: drift; None where it could not be measured, and then the step is not kept.
        seconds: it took, measuring left out.
        details: what it says of itself.
    """

    name: str
    kept: bool
    before: Drift | None
    after: Drift | None
    seconds: float
    details: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """The entry of the manifest, in JSON's types."""
        drifts = {"before": self.before, "after": self.after}
        measured = {name: drift.record() for name, drift in drifts.items() if drift is not None}
        return {"kept": self.kept, **measured, **{k: v for k, v in self.details.items() if k != BY_TENSOR}}

    def __str__(self) -> str:
        """Describe the effect of the step and whether it was kept, in a sentence."""
        if self.before is None or self.after is None:
            return f"{self.name} is left out: the held-out images show no instance to compare"
        changes = ", ".join(
            f"{what} {getattr(self.before, field):.4f} -> {getattr(self.after, field):.4f}"
            for what, field in (("1 - mask IoU", "masks"), ("1 - box IoU", "boxes"), ("score drift", "scores"))
        )
        return f"{self.name} {'is kept' if self.kept else 'does not help and is left out'}: {changes}"


def chosen_steps(names: Sequence[str], estimator: str) -> list[Step]:
    """The steps of these names, and the one that an estimator asks for, in the order in which they are taken.

    Raises:
        ConfigError: no step has such a name; the nearest one is suggested.
    """
    check_step_names(names)
    return [step for name, step in STEPS.items() if name in names or (name == RANGES and estimator == AUTO)]


@dataclass(frozen=True)
class Refined:
    """The state of refinement after some steps.

    Attributes:
        observed: the network that the next step begins with.
        outcomes: of the steps so far.
    """

    observed: Observed
    outcomes: tuple[Outcome, ...] = ()

    @property
    def drift(self) -> Drift | None:
        """Drift of the network after the last step; None where it could not be measured."""
        last = self.outcomes[-1]
        return last.after if last.kept else last.before


def refine(
    state: Refined, steps: Sequence[Step], given: Given, criterion: Criterion, on_step: Callable[[Refined], None]
) -> Refined:
    """Take the steps in order, and of each keep what it came to only where it helps.

    Args:
        state: weights and ranges, after none of the steps or after the first of them.
        steps: from `chosen_steps`.
        given: what they work with.
        criterion: measures the start and the result of every step; not called where there is no step.
        on_step: called after every step with the new state.
    """
    left = steps[len(state.outcomes) :]
    if not left:
        return state
    drift = state.drift if state.outcomes else criterion(state.observed.calibrated)
    for step in left:
        observed, outcome = _take(step, state.observed, drift, given, criterion)
        state = Refined(observed, (*state.outcomes, outcome))
        drift = state.drift
        on_step(state)
    return state


def _take(
    step: Step, current: Observed, drift: Drift | None, given: Given, criterion: Criterion
) -> tuple[Observed, Outcome]:
    """Take a step; returns its result, or the network as it was if the result does not help."""
    if drift is None:
        return current, Outcome(step.name, False, None, None, 0.0, {})
    began = time.monotonic()
    candidate, details = step.run(current, given)
    seconds = time.monotonic() - began
    after = criterion(candidate.calibrated)
    kept = after is not None and after.improves(drift)
    return candidate if kept else current, Outcome(step.name, kept, drift, after, seconds, details)


def _equalize(observed: Observed, given: Given) -> tuple[Observed, dict[str, Any]]:
    equalized = equalize(observed.reference, given.few)
    changed = rounded_tensors(equalized.traced).intersection(equalized.changed)
    seen = observe(equalized.traced, given.inputs, names=changed) if changed else {}
    histograms = {**observed.histograms, **seen}
    ranges = estimate(equalized.traced, histograms, given.first_estimator)
    return Observed(Calibrated(equalized.traced, ranges), histograms, equalized.traced), {"tensors": equalized.tensors}


def _choose(observed: Observed, given: Given) -> tuple[Observed, dict[str, Any]]:
    traced = observed.calibrated.traced
    choices = choose_ranges(traced, observed.histograms, competing(given.estimator), given.few)
    ranges = {name: choice.range for name, choice in choices.items()}
    by_tensor = {name: choice.estimator for name, choice in choices.items()}
    details = {"estimators": dict(Counter(by_tensor.values()).most_common()), BY_TENSOR: by_tensor}
    return replace(observed, calibrated=Calibrated(traced, ranges)), details


def _descend(observed: Observed, given: Given) -> tuple[Observed, dict[str, Any]]:
    return _round(observed, given, given.coordinate_descent)


def _learn(observed: Observed, given: Given) -> tuple[Observed, dict[str, Any]]:
    return _round(observed, given, given.adaround)


def _round(observed: Observed, given: Given, find: Find) -> tuple[Observed, dict[str, Any]]:
    roundings = find_roundings(observed.calibrated, given.few, find, given.sampling)
    details = {"convolutions": len(roundings.changed), "of": roundings.tried}
    return replace(observed, calibrated=roundings.calibrated), details


def _correct(observed: Observed, given: Given) -> tuple[Observed, dict[str, Any]]:
    corrected = correct_biases(observed.calibrated, observed.reference, given.few)
    return replace(observed, calibrated=corrected), {}


STEPS = {
    step.name: step
    for step in (
        Step(
            "cross_layer_equalization",
            "channels of a tensor made alike, without changing what the network computes",
            _equalize,
        ),
        Step(RANGES, "of each tensor by the estimator with the least error behind it", _choose),
        Step("coordinate_descent", "which way a weight is rounded, by coordinate descent layer by layer", _descend),
        Step("adaround", "which way a weight is rounded, learned layer by layer", _learn),
        Step("bias_correction", "what rounding adds to a channel on average, taken off its bias", _correct),
    )
}
"""By name, in the order in which they are taken."""
