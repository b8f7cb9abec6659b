"""Findings of the checks: measured value, limit, and the option that overrides it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Collection, Literal, Sequence

from blendmask_calibration.checks.limits import Limit
from blendmask_calibration.errors import CalibrationError, require_each

Severity = Literal["refuse", "warn"]
OPTION = "--allow"
CODES = (
    "few-images",
    "unreadable-images",
    "near-duplicates",
    "small-images",
    "blank-images",
    "value-range",
    "channel-order",
    "colorless-images",
    "not-photographs",
    "mixed-folder",
    "mixed-sizes",
    "few-detections",
    "broken-masks",
    "shifted-scores",
    "missed-instances",
    "spurious-instances",
    "max-drop",
)
"""Findings that can be overridden. The last five concern the quantized network and come from its evaluation."""


@dataclass(frozen=True)
class Finding:
    """A reason to refuse a calibration set, or to warn about it.

    Attributes:
        severity: "refuse" or "warn".
        code: one of `CODES`, or "no-images".
        message: measured and expected value, and what to do.
        measured, limit: the measured value and the limit that it exceeds, in the unit of the message.
        override: command-line option that overrides a refusal; None if it cannot be overridden.
    """

    severity: Severity
    code: str
    message: str
    measured: float
    limit: float
    override: str | None

    def __str__(self) -> str:
        """Return the message and, for a refusal, the option that overrides it."""
        if self.severity == "warn" or self.override is None:
            return self.message
        return f"{self.message} To continue anyway, add {self.override}."


def refusals(findings: Sequence[Finding], allow: Collection[str] = ()) -> list[Finding]:
    """Return the refusals that are not overridden.

    Args:
        findings: results of the checks.
        allow: codes of refusals to override.

    Raises:
        CalibrationError: an argument has another type, or a code in `allow` is unknown.
    """
    require_each("findings", findings, lambda one: isinstance(one, Finding), "a sequence of Finding")
    require_each("allow", allow, lambda code: isinstance(code, str), "a collection of codes")
    unknown = sorted(set(allow) - set(CODES))
    if unknown:
        raise CalibrationError(f"{OPTION} {unknown[0]}: unknown check. Expected one of {', '.join(CODES)}.")
    return [f for f in findings if f.severity == "refuse" and (f.override is None or f.code not in allow)]


def check_share(code: str, names: Sequence[str], total: int, limit: Limit, fault: str, advice: str) -> list[Finding]:
    """Compare the share of images with a fault with its limit.

    Args:
        code: code of the check.
        names: names of the images with the fault.
        total: number of images that were checked.
        limit: limit of the share, 0 to 1.
        fault: description of the fault, to follow "3 of 40 images".
        advice: what to do.

    Returns:
        An empty list, or one warning or refusal.
    """
    share = len(names) / max(total, 1)
    if share <= limit.warn:
        return []
    severity: Severity = "refuse" if share > limit.refuse else "warn"
    past = limit.refuse if severity == "refuse" else limit.warn
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    message = f"{len(names)} of {total} images {fault} ({shown}): {share:.0%}, at most {past:.0%} expected. {advice}"
    return [Finding(severity, code, message, share, past, f"{OPTION} {code}")]
