"""What makes a calibration set unfit, in words.

Every check is a pure function of what the caller measured and returns findings. The caller shows them all and stops on
those that `refusals` leaves standing. Nothing is raised for a bad set, so that a user sees every reason at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Collection, Literal, Sequence

from blendmask_calibration.errors import CalibrationError
from blendmask_calibration.images import CalibrationImage, near_duplicates
from blendmask_calibration.statistics import PictureStatistics

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
    "colourless-images",
    "few-detections",
    "broken-masks",
    "shifted-scores",
    "lost-objects",
    "invented-objects",
)
"""What can be overridden. The last four are of the quantised network; who measures it makes the findings."""


@dataclass(frozen=True)
class Limit:
    """A measured value past `warn` is worth a warning, past `refuse` a refusal; on the limit itself it is neither."""

    warn: float
    refuse: float


@dataclass(frozen=True)
class Limits:
    """Every threshold of the guard. Shares are 0 to 1 of the pictures; grey levels are 0 to 255.

    The fingerprint distance and the share of bluish pictures were set on rendered and on photographed scenes: distinct
    scenes differ in 29 bits or more, a one per cent shift or strong recompression in 9 or fewer; of 16 pictures in the
    right channel order at most 56 % are more blue than red on average (99 of 100 draws).

    Attributes:
        images: least number of readable pictures.
        unreadable, duplicates, small, blank, unscaled, bluish, colourless: largest share of such pictures.
        undetected: largest share of pictures on which the float model finds nothing.
        duplicate_distance: bits in which the fingerprints of near-duplicates differ at most.
        enlargement: a picture is small when it must be enlarged more than this to fill the network's input.
        darkest, brightest: mean brightness of a picture that is not almost black or white.
        flattest: standard deviation of a picture that is not of one colour.
        grey: mean chroma below which a picture has no colour.
    """

    images: Limit = Limit(warn=32, refuse=16)
    unreadable: Limit = Limit(warn=0.0, refuse=0.1)
    duplicate_distance: int = 12
    duplicates: Limit = Limit(warn=0.2, refuse=0.5)
    enlargement: float = 2.0
    small: Limit = Limit(warn=0.1, refuse=0.5)
    darkest: float = 10.0
    brightest: float = 245.0
    flattest: float = 3.0
    blank: Limit = Limit(warn=0.0, refuse=0.25)
    unscaled: Limit = Limit(warn=0.0, refuse=0.1)
    bluish: Limit = Limit(warn=0.6, refuse=0.9)
    grey: float = 1.0
    colourless: Limit = Limit(warn=0.5, refuse=math.inf)
    undetected: Limit = Limit(warn=0.5, refuse=0.8)


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


def check_images(
    images: Sequence[CalibrationImage],
    statistics: Sequence[PictureStatistics],
    unreadable: Sequence[tuple[Path, str]],
    input_size: tuple[int, int],
    limits: Limits | None = None,
) -> list[Finding]:
    """Judge a calibration set before the model sees it.

    Args:
        images: the pictures that could be read.
        statistics: one for each of `images`, in the same order.
        unreadable: path and reason of each file that could not.
        input_size: height and width of the network's input, in pixels.
        limits: thresholds; the defaults of `Limits` without them.

    Returns:
        The findings, refusals first. Empty for a set without fault.
    """
    limits = limits or Limits()
    findings = _check_unreadable(len(images), unreadable, limits)
    if images:
        findings += _check_count(len(images), limits)
        findings += _check_duplicates(images, limits)
        findings += _check_sizes(images, input_size, limits)
        findings += _check_pixels(images, statistics, limits)
    else:
        findings.append(_no_images(unreadable))
    return sorted(findings, key=lambda finding: finding.severity)


def check_detections(detections_per_image: Sequence[int], limits: Limits | None = None) -> list[Finding]:
    """Judge what the float model finds: a set on which it finds almost nothing does not exercise its masks.

    Args:
        detections_per_image: number of objects found on each picture, at the score threshold of the product.
        limits: thresholds; the defaults of `Limits` without them.
    """
    limit = (limits or Limits()).undetected
    names = [f"picture {index}" for index, count in enumerate(detections_per_image) if count == 0]
    return _judge_share(
        "few-detections",
        names,
        len(detections_per_image),
        limit,
        "show the float model no object",
        "Take pictures of what the robot will see, and check the checkpoint, its classes and the score threshold.",
    )


def refusals(findings: Sequence[Finding], allow: Collection[str] = ()) -> list[Finding]:
    """Return the refusals that the codes in `allow` do not override.

    Raises:
        CalibrationError: `allow` holds a code that does not exist.
    """
    unknown = sorted(set(allow) - set(CODES))
    if unknown:
        raise CalibrationError(f"{OPTION} {unknown[0]} names no check. Choose among: {', '.join(CODES)}.")
    return [f for f in findings if f.severity == "refuse" and (f.override is None or f.code not in allow)]


def _check_count(count: int, limits: Limits) -> list[Finding]:
    advised, needed = limits.images.warn, limits.images.refuse
    if count >= advised:
        return []
    severity: Severity = "refuse" if count < needed else "warn"
    past = needed if severity == "refuse" else advised
    message = (
        f"{count} calibration pictures can be read; at least {needed:.0f} are needed and {advised:.0f} are advised. "
        "Add pictures of different scenes."
    )
    return [Finding(severity, "few-images", message, count, past, f"{OPTION} few-images")]


def _no_images(unreadable: Sequence[tuple[Path, str]]) -> Finding:
    failed = f" ({len(unreadable)} files could not be read)" if unreadable else ""
    message = f"No calibration picture was found{failed}. Give a folder with pictures of what the robot will see."
    return Finding("refuse", "no-images", message, 0, 1, None)


def _check_unreadable(readable: int, unreadable: Sequence[tuple[Path, str]], limits: Limits) -> list[Finding]:
    return _judge_share(
        "unreadable-images",
        [f"{path} ({reason})" for path, reason in unreadable],
        readable + len(unreadable),
        limits.unreadable,
        "cannot be read",
        "Remove or replace the files.",
    )


def _check_duplicates(images: Sequence[CalibrationImage], limits: Limits) -> list[Finding]:
    groups = near_duplicates([image.fingerprint for image in images], limits.duplicate_distance)
    spare = [images[index].name for group in groups for index in group[1:]]
    return _judge_share(
        "near-duplicates",
        spare,
        len(images),
        limits.duplicates,
        "nearly repeat another one",
        "Take fewer frames of each recording and more recordings.",
    )


def _check_sizes(images: Sequence[CalibrationImage], input_size: tuple[int, int], limits: Limits) -> list[Finding]:
    height, width = input_size
    small = [i.name for i in images if min(height / i.height, width / i.width) > limits.enlargement]
    return _judge_share(
        "small-images",
        small,
        len(images),
        limits.small,
        f"must be enlarged more than {limits.enlargement:g} times to fill the network's input of {height}x{width}",
        "Use pictures at the size of the camera.",
    )


def _check_pixels(
    images: Sequence[CalibrationImage], statistics: Sequence[PictureStatistics], limits: Limits
) -> list[Finding]:
    findings = []
    for check in _PIXEL_CHECKS:
        pairs = zip(images, statistics, strict=True)
        names = [image.name for image, picture in pairs if check.unfit(picture, limits)]
        findings += _judge_share(check.code, names, len(images), check.limit(limits), check.fault, check.advice)
    return findings


def _judge_share(code: str, names: Sequence[str], total: int, limit: Limit, fault: str, advice: str) -> list[Finding]:
    share = len(names) / max(total, 1)
    if share <= limit.warn:
        return []
    severity: Severity = "refuse" if share > limit.refuse else "warn"
    past = limit.refuse if severity == "refuse" else limit.warn
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    message = f"{len(names)} of {total} pictures {fault} ({shown}): {share:.0%}, at most {past:.0%} expected. {advice}"
    return [Finding(severity, code, message, share, past, f"{OPTION} {code}")]


def _blank(statistics: PictureStatistics, limits: Limits) -> bool:
    lit = limits.darkest <= statistics.brightness <= limits.brightest
    return not lit or statistics.deviation < limits.flattest


@dataclass(frozen=True)
class _PixelCheck:
    code: str
    unfit: Callable[[PictureStatistics, Limits], bool]
    limit: Callable[[Limits], Limit]
    fault: str
    advice: str


_PIXEL_CHECKS = (
    _PixelCheck(
        "value-range",
        lambda picture, _: picture.highest == 1,
        lambda limits: limits.unscaled,
        "hold no value but 0 and 1",
        "They look like floats of 0 to 1 stored as whole numbers: multiply by 255 before storing.",
    ),
    _PixelCheck(
        "blank-images",
        lambda picture, limits: picture.highest != 1 and _blank(picture, limits),
        lambda limits: limits.blank,
        "are almost black, almost white or of one colour",
        "Remove them, or check the exposure and the decoder.",
    ),
    _PixelCheck(
        "channel-order",
        lambda picture, _: picture.blue > picture.red,
        lambda limits: limits.bluish,
        "are more blue than red on average",
        "That is rare unless red and blue are swapped: check that frames are given as RGB, not BGR.",
    ),
    _PixelCheck(
        "colourless-images",
        lambda picture, limits: picture.chroma < limits.grey,
        lambda limits: limits.colourless,
        "have no colour",
        "If the robot's camera sees colour, calibrate with colour pictures.",
    ),
)
