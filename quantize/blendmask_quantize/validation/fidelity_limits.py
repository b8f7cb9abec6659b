"""Whether a quantized network is fit to be shipped, in the words of the calibration guard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from blendmask_calibration.checks.findings import OPTION, Finding, Severity
from blendmask_calibration.checks.limits import Limit
from blendmask_quantize.validation.fidelity import CONFIDENT, Fidelity


@dataclass(frozen=True)
class FidelityLimits:
    """A measured value past `warn` is worth a warning, past `refuse` a refusal.

    They were set on a trained network: sound ranges keep a mask IoU of 0.91 or more (0.93 on images like those it was
    trained on), a score within 0.02, and 93 % of the instances or more even on images unlike those. Ranges of the bases
    that are 20 times too small leave boxes and scores as they were, and a mask IoU of 0.65 at most.

    Attributes:
        mask_iou: least mean IoU of the masks of matched instances.
        mask_iou_low: least 5 % quantile of it.
        score_drift: largest mean difference of the scores of matched instances.
        missed, spurious: largest number of such instances over those that the float network is sure of.
    """

    mask_iou: Limit = field(default=Limit(warn=0.85, refuse=0.75))
    mask_iou_low: Limit = field(default=Limit(warn=0.4, refuse=-math.inf))
    score_drift: Limit = field(default=Limit(warn=0.05, refuse=0.1))
    missed: Limit = field(default=Limit(warn=0.1, refuse=0.3))
    spurious: Limit = field(default=Limit(warn=0.1, refuse=0.3))


_ADVICE = "Calibrate on images of what the robot will see, try another --estimator, or go on with --recipe qat."


def check_fidelity(fidelity: Mapping[str, Fidelity], limits: FidelityLimits | None = None) -> list[Finding]:
    """Compare fidelity with its limits, by variant. Masks have a limit of their own."""
    findings: list[Finding] = []
    for variant, measured in fidelity.items():
        findings += _check(variant, measured, limits or FidelityLimits())
    return sorted(findings, key=lambda finding: finding.severity)


def _check(variant: str, fidelity: Fidelity, limits: FidelityLimits) -> list[Finding]:
    if not fidelity.instances:
        return [_nothing_to_compare(variant, fidelity)]
    checks = [
        ("missed-instances", fidelity.missed / fidelity.instances, limits.missed, _missed),
        ("spurious-instances", fidelity.spurious / fidelity.instances, limits.spurious, _spurious),
    ]
    if fidelity.matched:
        checks += [
            ("shifted-scores", fidelity.score_drift, limits.score_drift, _shifted),
            ("broken-masks", -fidelity.mask_iou, _negative(limits.mask_iou), _broken),
            ("broken-masks", -fidelity.mask_iou_low, _negative(limits.mask_iou_low), _some_broken),
        ]
    return [
        _finding(variant, code, measured, limit, fault(fidelity))
        for code, measured, limit, fault in checks
        if measured > limit.warn
    ]


def _finding(variant: str, code: str, measured: float, limit: Limit, fault: str) -> Finding:
    severity: Severity = "refuse" if measured > limit.refuse else "warn"
    past = limit.refuse if severity == "refuse" else limit.warn
    expected = f"at most {past:g}" if past >= 0 else f"at least {-past:g}"
    message = f"{variant}: {fault}; {expected} is expected. {_ADVICE}"
    return Finding(severity, code, message, abs(measured), abs(past), f"{OPTION} {code}")


def _negative(limit: Limit) -> Limit:
    """For a value that must not be too small: of both, the sign is changed."""
    return Limit(-limit.warn, -limit.refuse)


def _missed(fidelity: Fidelity) -> str:
    return (
        f"{fidelity.missed} of {fidelity.instances} instances of the float network (score >= {CONFIDENT:g}) are "
        f"missed: a share of {fidelity.missed / fidelity.instances:.2f}"
    )


def _spurious(fidelity: Fidelity) -> str:
    return (
        f"{fidelity.spurious} instances are spurious (score >= {CONFIDENT:g}) beside {fidelity.instances} of the float "
        f"network: a share of {fidelity.spurious / fidelity.instances:.2f}"
    )


def _shifted(fidelity: Fidelity) -> str:
    return (
        f"scores of the {fidelity.matched} matched instances differ by {fidelity.score_drift:.3f} on average, "
        "so that thresholds chosen for the float network do not fit"
    )


def _broken(fidelity: Fidelity) -> str:
    return (
        f"masks do not survive rounding, whatever the scores say: those of the {fidelity.matched} instances that both "
        f"networks find agree at a mean IoU of {fidelity.mask_iou:.2f}, while their boxes agree at "
        f"{fidelity.box_iou:.2f} and their scores within {fidelity.score_drift:.3f}. Bases, coefficients or the "
        "blend are at fault"
    )


def _some_broken(fidelity: Fidelity) -> str:
    return f"of {fidelity.matched} masks, one in twenty agrees at an IoU of {fidelity.mask_iou_low:.2f} or less"


def _nothing_to_compare(variant: str, fidelity: Fidelity) -> Finding:
    message = (
        f"{variant}: the float network detects no instance with confidence (score >= {CONFIDENT:g}) in "
        f"{fidelity.images} images, so that its masks could not be compared with those of INT8. Add images "
        "that show instances."
    )
    return Finding("warn", "nothing-compared", message, 0, 1, None)
