"""The bound on the accuracy that quantization may cost: layers go back to float until it holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from blendmask_calibration.checks.findings import OPTION, Finding
from blendmask_quantize.model.macs import macs_by_layer
from blendmask_quantize.pipeline.calibration_set import CalibrationReport
from blendmask_quantize.pipeline.ground_truth import held_out_truth
from blendmask_quantize.pipeline.quantized import Quantized
from blendmask_quantize.pipeline.stages import refine_again
from blendmask_quantize.pipeline.stored_answers import StoredAnswers
from blendmask_quantize.quantization.ignored import ignoring
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.sensitivity.layers import Layer, Layers
from blendmask_quantize.quantization.sensitivity.search import fewest_in_float
from blendmask_quantize.runs.progress import OnStep, ignore
from blendmask_quantize.validation.drop import DropCriterion
from blendmask_quantize.validation.ground_truth import GroundTruth
from blendmask_quantize.validation.sensitivity import measure_changes

MAX_DROP = "max_drop"
_CODE = "max-drop"
_SEARCH = "search"
_RANKED_ON = 4
"""Held-out images that layers are ranked on."""
_KEPT_AT_ONCE = 8
"""Layers that are measured between two writes of what an interrupted run goes on from."""

Drops = Mapping[str, float]


@dataclass(frozen=True)
class DropReport:
    """The result of a bound on the drop of mask AP.

    Attributes:
        bound: largest share of the mask AP of the float network that may be lost.
        before, after: the share that is lost with all layers quantized and in the end, by variant; below 0 where mask
            AP is gained.
        reverted: names of the layers that went back to float.
        float_macs_share: share of the multiply-accumulates in float in the end, those of the box predictors included.
        images: number of held-out images that it was measured on.
        ground_truth: source of their instances.
    """

    bound: float
    before: Drops
    after: Drops
    reverted: tuple[str, ...]
    float_macs_share: float
    images: int
    ground_truth: str

    @property
    def holds(self) -> bool:
        """Whether the bound holds in every variant."""
        return max(self.after.values()) <= self.bound

    def record(self) -> dict[str, Any]:
        """The entry of the manifest, in JSON's types."""
        return {
            "bound": self.bound, "holds": self.holds, "before": dict(self.before), "after": dict(self.after),
            "reverted": list(self.reverted), "float_macs_share": self.float_macs_share, "images": self.images,
            "ground_truth": self.ground_truth,
        }  # fmt: skip

    def __str__(self) -> str:
        """Describe the layers that the bound left in float, in a sentence or two."""
        where = f"on {self.images} held-out images, ground truth by {self.ground_truth}"
        text = f"mask AP drops by {_listed(self.before)} {where}; at most {self.bound:.1%} is allowed"
        if not self.reverted:
            return f"{text}; no layer is left in float for it"
        layers = f"{len(self.reverted)} layers in float ({', '.join(self.reverted)})"
        return f"{text}: with {layers}, {self.float_macs_share:.1%} of the MACs, it drops by {_listed(self.after)}"

    def findings(self) -> list[Finding]:
        """A refusal where the bound does not hold."""
        if self.holds:
            return []
        message = f"{self}. Allow a larger --max-drop or --max-float-macs, or go on with --recipe qat."
        return [Finding("refuse", _CODE, message, max(self.after.values()), self.bound, f"{OPTION} {_CODE}")]


def _listed(drops: Drops) -> str:
    return ", ".join(f"{drop:.1%} ({variant})" for variant, drop in drops.items())


def hold_drop(quantized: Quantized) -> Quantized:
    """Revert layers to float until the job's bound, if any, holds on held-out images, or as far as may be.

    Args:
        quantized: after its recipe.

    Raises:
        AnnotationError: the labels do not fit the held-out images.
        CalibrationError: without labels, the float network detects nothing with confidence.
    """
    if quantized.job.recipe.max_drop is None:
        return quantized
    job = quantized.job
    reference = job.predictor(job.network)
    data = held_out_truth(job.checkpoint, job.dataset, job.options.annotations, quantized.images, reference)
    bound = _Bound(quantized, data)
    before = bound.drops(quantized.calibrated)
    if max(before.values()) <= bound.most:
        return bound.reported(quantized, before, before, ())
    most = quantized.job.recipe.max_float_macs
    reverted, _ = fewest_in_float(bound.layers, bound.changes(), bound.holds_with, most)
    plain = replace(quantized, calibrated=bound.reverting(reverted), refined=())
    candidates = [plain]
    if quantized.observed is not None:
        candidates.insert(0, refine_again(quantized, quantized.observed, plain.calibrated))
    measured = [(bound.drops(one.calibrated), one) for one in candidates]
    after, best = min(measured, key=lambda entry: max(entry[0].values()))
    return bound.reported(best, before, after, reverted)


class _Bound:
    """Asks whether the bound holds, and remembers what was measured, also by an interrupted run of the job."""

    def __init__(self, quantized: Quantized, data: GroundTruth) -> None:
        self.quantized, self.job, self.data = quantized, quantized.job, data
        self.most = float(quantized.job.recipe.max_drop or 0)
        observed = quantized.observed
        self.start = quantized.calibrated if observed is None else observed.calibrated
        macs = macs_by_layer(self.job.checkpoint.model, self.job.size)
        self.layers = Layers.of(self.start.traced, macs)
        self.known = StoredAnswers(self.job.stage_results, _SEARCH)

    @cached_property
    def drop(self) -> DropCriterion:
        """The criterion; the float network is measured once."""
        return DropCriterion(self.job.predictor, self.job.network, self.data)

    def drops(self, calibrated: Calibrated) -> dict[str, float]:
        """The share of mask AP that each variant loses."""
        return {variant: self.drop(calibrated.render(variant)) for variant in VARIANTS}

    def changes(self) -> dict[str, float]:
        """The change by each layer when it alone is quantized, with the mask AP that it loses."""
        layers = self.layers.quantized
        batches = {
            f"changes of {', '.join(layer.name for layer in some)}": some
            for some in (layers[first : first + _KEPT_AT_ONCE] for first in range(0, len(layers), _KEPT_AT_ONCE))
        }
        few = replace(self.data, frames=self.data.frames[:_RANKED_ON], ids=self.data.ids[:_RANKED_ON])
        left = sum(len(some) for question, some in batches.items() if question not in self.known.answers)
        on_trial = (
            self.job.progress("measuring each layer alone", len(few.ids) * left * len(VARIANTS)) if left else ignore
        )
        changes: dict[str, float] = {}
        for question, some in batches.items():
            changes |= self.known.of(question, partial(self._measure_changes, some, few, on_trial))
        return changes

    def _measure_changes(self, layers: Sequence[Layer], data: GroundTruth, on_trial: OnStep) -> dict[str, float]:
        groups = {layer.name: (layer,) for layer in layers}
        changes = measure_changes(
            self.start, groups, self.job.predictor, data, VARIANTS, on_trial, rows=self.job.bounds.detections,
            with_ap=True,
        )  # fmt: skip
        return {name: change.total + change.drop for name, change in changes.items()}

    def reverting(self, layers: Collection[Layer]) -> Calibrated:
        """The weights and ranges before refinement, with some layers in float."""
        nodes = {node for layer in layers for node in layer.nodes}
        return Calibrated(ignoring(self.start.traced, nodes), self.start.ranges)

    @cached_property
    def _on_trial(self) -> Callable[[], None]:
        return self.job.progress("reverting layers to float", len(self.layers.quantized))

    def holds_with(self, layers: Collection[Layer]) -> bool:
        """Whether the bound holds in every variant with some layers in float."""
        calibrated = self.reverting(layers)
        self._on_trial()
        names = ", ".join(sorted(layer.name for layer in layers))
        drops: dict[str, float] = self.known.of(f"drops with {names}", lambda: self.drops(calibrated))
        return max(drops.values()) <= self.most

    def reported(self, result: Quantized, before: Drops, after: Drops, reverted: Collection[Layer]) -> Quantized:
        """The network with the report; the finding that the bound does not hold is not checked yet."""
        names = tuple(layer.name for layer in self.layers.quantized if layer in reverted)
        report = DropReport(
            self.most, before, after, names, self.layers.float_share(list(reverted)), len(self.data.ids),
            self.data.source,
        )  # fmt: skip
        calibration = result.images.report
        unchecked = CalibrationReport(calibration.record, (*calibration.warnings, *report.findings()))
        return result.trained(MAX_DROP, report, replace(result.images, report=unchecked), result.calibrated)
