"""What is found against a calibration set, or against what became of it: measured, named, and what overrides it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Collection, Literal, Sequence

from blendmask_calibration.checks.limits import Limit
from blendmask_calibration.errors import CalibrationError

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
)
"""What can be overridden. The last four are of the quantized network; who measures it makes the findings."""


@dataclass(frozen=True)
class Finding:
    """One reason against a calibration set.

    Attributes:
        severity: "refuse" or "warn".
        code: one of `CODES`, or "no-images".
        message: what was found, what was expected, what to do.
        measured, limit: the value found and the one it is past, in the unit that the message names.
        override: the option that lets the set pass; None where nothing can.
    """

    severity: Severity
    code: str
    message: str
    measured: float
    limit: float
    override: str | None

    def __str__(self) -> str:
        """The message, and for a refusal the option that overrides it."""
        if self.severity == "warn" or self.override is None:
            return self.message
        return f"{self.message} To go on all the same: {self.override}."


def refusals(findings: Sequence[Finding], allow: Collection[str] = ()) -> list[Finding]:
    """Return the refusals that the codes in `allow` do not override.

    Raises:
        CalibrationError: `allow` holds a code that does not exist.
    """
    unknown = sorted(set(allow) - set(CODES))
    if unknown:
        raise CalibrationError(f"{OPTION} {unknown[0]} names no check. Choose among: {', '.join(CODES)}.")
    return [f for f in findings if f.severity == "refuse" and (f.override is None or f.code not in allow)]


def check_share(code: str, names: Sequence[str], total: int, limit: Limit, fault: str, advice: str) -> list[Finding]:
    """Hold the share of the images that have a fault against its limit: no finding, a warning or a refusal.

    Args:
        code: of the check.
        names: of the images with the fault.
        total: number of images looked at.
        limit: of the share, 0 to 1.
        fault: what is wrong, to follow "3 of 40 images".
        advice: what to do.
    """
    share = len(names) / max(total, 1)
    if share <= limit.warn:
        return []
    severity: Severity = "refuse" if share > limit.refuse else "warn"
    past = limit.refuse if severity == "refuse" else limit.warn
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    message = f"{len(names)} of {total} images {fault} ({shown}): {share:.0%}, at most {past:.0%} expected. {advice}"
    return [Finding(severity, code, message, share, past, f"{OPTION} {code}")]
