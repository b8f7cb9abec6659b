"""What makes a calibration set unfit, in words.

Every check is a pure function of what the caller measured and returns findings. The caller shows them all and stops on
those that `refusals` leaves standing. Nothing is raised for a bad set, so that a user sees every reason at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, Sequence

import numpy as np

from blendmask_calibration.checks.findings import OPTION, Finding, Severity, check_share
from blendmask_calibration.checks.limits import Limit, Limits
from blendmask_calibration.checks.statistics import ImageStatistics
from blendmask_calibration.images import CalibrationImage, near_duplicates


def check_images(
    images: Sequence[CalibrationImage],
    statistics: Sequence[ImageStatistics],
    unreadable: Sequence[tuple[Path, str]],
    input_size: tuple[int, int],
    limits: Limits | None = None,
    passed_over: Mapping[str, int] | None = None,
) -> list[Finding]:
    """Judge a calibration set before the model sees it.

    Args:
        images: the images that could be read.
        statistics: one for each of `images`, in the same order.
        unreadable: path and reason of each file that could not.
        input_size: height and width of the network's input, in pixels.
        limits: thresholds; the defaults of `Limits` without them.
        passed_over: numbers of the other files beside the images, by suffix, from `other_files`; they explain why
            images are few.

    Returns:
        The findings, refusals first. Empty for a set without fault.
    """
    limits = limits or Limits()
    findings = _check_unreadable(len(images), unreadable, limits)
    if images:
        findings += _check_count(len(images), limits, _beside(passed_over or {}))
        findings += _check_duplicates(images, limits)
        findings += _check_sizes(images, input_size, limits)
        findings += _check_pixels(images, statistics, limits)
        findings += _check_mixture(images, statistics, limits)
    else:
        findings.append(_no_images(unreadable, _beside(passed_over or {})))
    return sorted(findings, key=lambda finding: finding.severity)


def check_detections(detections_per_image: Sequence[int], limits: Limits | None = None) -> list[Finding]:
    """Judge what the float model finds: a set on which it finds almost nothing does not exercise its masks.

    Args:
        detections_per_image: number of instances found on each pixels, at the score threshold of the product.
        limits: thresholds; the defaults of `Limits` without them.
    """
    limit = (limits or Limits()).undetected
    names = [f"image {index}" for index, count in enumerate(detections_per_image) if count == 0]
    return check_share(
        "few-detections",
        names,
        len(detections_per_image),
        limit,
        "show the float model no object",
        "Take images of what the robot will see, and check the checkpoint, its classes and the score threshold.",
    )


def check_channel_order(
    given: Sequence[Sequence[float]], swapped: Sequence[Sequence[float]], limits: Limits | None = None
) -> list[Finding]:
    """Judge the channel order by the float model, which is surest of images like those it was trained on.

    How sure it is of an image is the sum of the cubes of its scores, so that sure instances count and guesses do not.

    Args:
        given: scores of the instances found on each pixels.
        swapped: the same images, with red and blue swapped.
        limits: thresholds; the defaults of `Limits` without them.
    """
    limits = limits or Limits()
    before, after = (np.array([sum(score**3 for score in scores) for scores in found]) for found in (given, swapped))
    gains = after - before
    if len(gains) < 2 or not gains.sum() > 0:
        return []
    errors = float(gains.mean()) / max(float(gains.std(ddof=1)) / len(gains) ** 0.5, 1e-9)
    gain = float(gains.sum()) / max(float(before.sum()), 1e-9)
    if errors <= limits.swap_errors.warn or gain <= limits.swap_gain.warn:
        return []
    refused = errors > limits.swap_errors.refuse and gain > limits.swap_gain.refuse
    return [_swapped(len(gains), errors, gain, limits, refused=refused)]


def _swapped(count: int, errors: float, gain: float, limits: Limits, *, refused: bool) -> Finding:
    past = limits.swap_errors.refuse if refused else limits.swap_errors.warn
    message = (
        f"With red and blue swapped, the float model is surer of what it finds on {count} images: by {gain:.1%}, "
        f"which is {errors:.1f} standard errors, at most {past:g} expected. Check that frames are saved as RGB, not "
        "BGR, and that the checkpoint's configuration names its own channel order."
    )
    return Finding("refuse" if refused else "warn", "channel-order", message, errors, past, f"{OPTION} channel-order")


def _check_count(count: int, limits: Limits, beside: str) -> list[Finding]:
    advised, needed = limits.images.warn, limits.images.refuse
    if count >= advised:
        return []
    severity: Severity = "refuse" if count < needed else "warn"
    past = needed if severity == "refuse" else advised
    message = (
        f"{count} calibration images can be read; at least {needed:.0f} are needed and {advised:.0f} are advised. "
        f"Add images of different scenes.{beside}"
    )
    return [Finding(severity, "few-images", message, count, past, f"{OPTION} few-images")]


def _no_images(unreadable: Sequence[tuple[Path, str]], beside: str) -> Finding:
    failed = f" ({len(unreadable)} files could not be read)" if unreadable else ""
    message = f"No calibration image was found{failed}. Give a folder with images of what the robot will see.{beside}"
    return Finding("refuse", "no-images", message, 0, 1, None)


def _beside(passed_over: Mapping[str, int]) -> str:
    """What else lies in the folder, most frequent first."""
    if not passed_over:
        return ""
    kinds = sorted(passed_over, key=lambda suffix: (-passed_over[suffix], suffix))
    shown = ", ".join(f"{passed_over[kind]} {kind or 'without suffix'}" for kind in kinds[:4])
    return f" Files that are not read as images lie there too: {shown}{', ...' if len(kinds) > 4 else ''}."


def _check_unreadable(readable: int, unreadable: Sequence[tuple[Path, str]], limits: Limits) -> list[Finding]:
    return check_share(
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
    return check_share(
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
    return check_share(
        "small-images",
        small,
        len(images),
        limits.small,
        f"must be enlarged more than {limits.enlargement:g} times to fill the network's input of {height}x{width}",
        "Use images at the size of the camera.",
    )


def _check_pixels(
    images: Sequence[CalibrationImage], statistics: Sequence[ImageStatistics], limits: Limits
) -> list[Finding]:
    findings = []
    for check in _PIXEL_CHECKS:
        pairs = zip(images, statistics, strict=True)
        names = [image.name for image, pixels in pairs if check.unfit(pixels, limits)]
        findings += check_share(check.code, names, len(images), check.limit(limits), check.fault, check.advice)
    return findings


def _check_mixture(
    images: Sequence[CalibrationImage], statistics: Sequence[ImageStatistics], limits: Limits
) -> list[Finding]:
    """Images that come from different sources."""
    gray = [i.name for i, pixels in zip(images, statistics, strict=True) if pixels.chroma < limits.gray]
    sizes = Counter(_size(image) for image in images)
    usual = max(sizes, key=lambda size: (sizes[size], size))
    other = [image.name for image in images if _size(image) != usual]
    findings = check_share(
        "mixed-sizes",
        other,
        len(images),
        limits.other_sizes,
        f"have another size than most ({usual[1]}x{usual[0]}; there are {len(sizes)} sizes)",
        "A robot's camera gives one: if they come from elsewhere, calibrate on images from the camera.",
    )
    if len(gray) < (1 - limits.gray_among_color.warn) * len(images):
        findings += check_share(
            "mixed-folder",
            gray,
            len(images),
            limits.gray_among_color,
            "have no color while the others do",
            "They look like depth images, masks or another camera: give a folder with the images of one camera.",
        )
    return findings


def _size(image: CalibrationImage) -> tuple[int, int]:
    """Shorter and longer side, whichever way the camera is held."""
    return min(image.height, image.width), max(image.height, image.width)


def _narrow(statistics: ImageStatistics, limits: Limits) -> bool:
    span = statistics.highest - statistics.lowest
    return span < limits.narrowest and statistics.highest != 1 and not _blank(statistics, limits)


def _blank(statistics: ImageStatistics, limits: Limits) -> bool:
    lit = limits.darkest <= statistics.brightness <= limits.brightest
    return not lit or statistics.deviation < limits.flattest


@dataclass(frozen=True)
class _PixelCheck:
    code: str
    unfit: Callable[[ImageStatistics, Limits], bool]
    limit: Callable[[Limits], Limit]
    fault: str
    advice: str


_PIXEL_CHECKS = (
    _PixelCheck(
        "value-range",
        lambda pixels, _: pixels.highest == 1,
        lambda limits: limits.unscaled,
        "hold no value but 0 and 1",
        "They look like floats of 0 to 1 stored as whole numbers: multiply by 255 before storing.",
    ),
    _PixelCheck(
        "value-range",
        _narrow,
        lambda limits: limits.narrow,
        "use a small part of the 256 gray levels",
        "They look as if they were scaled wrongly, e.g. 12 bits stored in 16: stretch them to 0 to 255 before storing.",
    ),
    _PixelCheck(
        "not-photographs",
        lambda pixels, limits: pixels.flatness > limits.drawn and not _blank(pixels, limits),
        lambda limits: limits.flat,
        "consist of areas of one color",
        "They look like label masks, drawings or screenshots: leave in the folder what the camera gave.",
    ),
    _PixelCheck(
        "blank-images",
        lambda pixels, limits: pixels.highest != 1 and _blank(pixels, limits),
        lambda limits: limits.blank,
        "are almost black, almost white or of one color",
        "Remove them, or check the exposure and the decoder.",
    ),
    _PixelCheck(
        "channel-order",
        lambda pixels, _: pixels.blue > pixels.red,
        lambda limits: limits.bluish,
        "are more blue than red on average",
        "That is rare unless red and blue are swapped: check that frames are given as RGB, not BGR.",
    ),
    _PixelCheck(
        "colorless-images",
        lambda pixels, limits: pixels.chroma < limits.gray,
        lambda limits: limits.colourless,
        "have no color",
        "If the robot's camera sees color, calibrate with color images.",
    ),
)
