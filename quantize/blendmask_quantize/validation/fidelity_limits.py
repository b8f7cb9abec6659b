"""Whether a quantised network is fit to be shipped, in the words of the calibration guard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from blendmask_calibration.checks.findings import OPTION, Finding, Severity
from blendmask_calibration.checks.limits import Limit
from blendmask_quantize.validation.fidelity import SURE, Fidelity


@dataclass(frozen=True)
class FidelityLimits:
    """A measured value past `warn` is worth a warning, past `refuse` a refusal.

    They were set on a trained network: sound ranges keep a mask IoU of 0.91 or more (0.93 on pictures like those it was
    trained on), a score within 0.02, and 93 % of the objects or more even on pictures unlike those. Ranges of the bases
    that are 20 times too small leave boxes and scores as they were, and a mask IoU of 0.65 at most.

    Attributes:
        mask_iou: least mean IoU of the masks of matched objects.
        mask_iou_low: least 5 % quantile of it.
        score_drift: largest mean difference of the scores of matched objects.
        lost, invented: largest number of such objects over those that the float network is sure of.
    """

    mask_iou: Limit = field(default=Limit(warn=0.85, refuse=0.75))
    mask_iou_low: Limit = field(default=Limit(warn=0.4, refuse=-math.inf))
    score_drift: Limit = field(default=Limit(warn=0.05, refuse=0.1))
    lost: Limit = field(default=Limit(warn=0.1, refuse=0.3))
    invented: Limit = field(default=Limit(warn=0.1, refuse=0.3))


_ADVICE = "Calibrate on pictures of what the robot will see, try another --estimator, or go on with --recipe qat."


def check_fidelity(fidelity: Mapping[str, Fidelity], limits: FidelityLimits | None = None) -> list[Finding]:
    """Judge quantised networks, by flavour. Masks are judged by their own IoU, whatever boxes and scores say."""
    findings: list[Finding] = []
    for flavour, measured in fidelity.items():
        findings += _check(flavour, measured, limits or FidelityLimits())
    return sorted(findings, key=lambda finding: finding.severity)


def _check(flavour: str, found: Fidelity, limits: FidelityLimits) -> list[Finding]:
    if not found.objects:
        return [_nothing_to_compare(flavour, found)]
    checks = [
        ("lost-objects", found.lost / found.objects, limits.lost, _lost),
        ("invented-objects", found.invented / found.objects, limits.invented, _invented),
    ]
    if found.matched:
        checks += [
            ("shifted-scores", found.score_drift, limits.score_drift, _shifted),
            ("broken-masks", -found.mask_iou, _negative(limits.mask_iou), _broken),
            ("broken-masks", -found.mask_iou_low, _negative(limits.mask_iou_low), _some_broken),
        ]
    return [
        _finding(flavour, code, measured, limit, fault(found))
        for code, measured, limit, fault in checks
        if measured > limit.warn
    ]


def _finding(flavour: str, code: str, measured: float, limit: Limit, fault: str) -> Finding:
    severity: Severity = "refuse" if measured > limit.refuse else "warn"
    past = limit.refuse if severity == "refuse" else limit.warn
    expected = f"at most {past:g}" if past >= 0 else f"at least {-past:g}"
    message = f"{flavour}: {fault}; {expected} is expected. {_ADVICE}"
    return Finding(severity, code, message, abs(measured), abs(past), f"{OPTION} {code}")


def _negative(limit: Limit) -> Limit:
    """For a value that must not be too small: of both, the sign is changed."""
    return Limit(-limit.warn, -limit.refuse)


def _lost(found: Fidelity) -> str:
    return (
        f"{found.lost} of {found.objects} objects that the float network is sure of (score >= {SURE:g}) are lost: a "
        f"share of {found.lost / found.objects:.2f}"
    )


def _invented(found: Fidelity) -> str:
    return (
        f"{found.invented} objects are invented (score >= {SURE:g}) beside {found.objects} that the float network is "
        f"sure of: a share of {found.invented / found.objects:.2f}"
    )


def _shifted(found: Fidelity) -> str:
    return (
        f"scores of the {found.matched} objects that both networks find differ by {found.score_drift:.3f} on average, "
        "so that thresholds chosen for the float network do not fit"
    )


def _broken(found: Fidelity) -> str:
    return (
        f"masks do not survive rounding, whatever the scores say: those of the {found.matched} objects that both "
        f"networks find agree at a mean IoU of {found.mask_iou:.2f}, while their boxes agree at {found.box_iou:.2f} "
        f"and their scores within {found.score_drift:.3f}. Bases, coefficients or the blend are at fault"
    )


def _some_broken(found: Fidelity) -> str:
    return f"of {found.matched} masks, one in twenty agrees at an IoU of {found.mask_iou_low:.2f} or less"


def _nothing_to_compare(flavour: str, found: Fidelity) -> Finding:
    message = (
        f"{flavour}: the float network is sure of no object (score >= {SURE:g}) in {found.pictures} pictures, so that "
        "its masks could not be compared with those of INT8. Add pictures that show objects."
    )
    return Finding("warn", "nothing-compared", message, 0, 1, None)
