"""Checks of calibration images.

Each check is a pure function of measured values and returns findings instead of raising, so that a user sees all
problems at once. The caller shows the findings and stops if `refusals` leaves any.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from blendmask_calibration.checks.findings import OPTION, Finding, Severity, check_share
from blendmask_calibration.checks.limits import Limit, Limits
from blendmask_calibration.checks.statistics import ImageStatistics
from blendmask_calibration.errors import require, require_each
from blendmask_calibration.images import CalibrationImage, near_duplicates
from blendmask_calibration.sampling import GIVE_IMAGES, describe_other_files


def check_images(
    images: Sequence[CalibrationImage],
    statistics: Sequence[ImageStatistics],
    unreadable: Sequence[tuple[Path, str]],
    input_size: tuple[int, int],
    limits: Limits | None = None,
    passed_over: Mapping[str, int] | None = None,
) -> list[Finding]:
    """Check the files and pixels of a calibration set.

    Args:
        images: records of the images that could be read.
        statistics: statistics of the same images, in the same order.
        unreadable: path and reason of each file that could not be read.
        input_size: height and width of the network input in pixels.
        limits: thresholds; None takes the defaults.
        passed_over: number of other files by suffix, from `other_files`, to explain why there are few images.

    Returns:
        Findings, refusals first; empty if all checks pass.

    Raises:
        CalibrationError: an argument has another type, or there are not as many statistics as images.
    """
    require_each("images", images, lambda one: isinstance(one, CalibrationImage), "a sequence of CalibrationImage")
    require_each("statistics", statistics, lambda one: isinstance(one, ImageStatistics), "the statistics of each image")
    require(len(statistics) == len(images), "statistics", statistics, f"one for each of {len(images)} images")
    require_each("unreadable", unreadable, lambda one: len(one) == 2, "pairs of a path and a reason")
    require_each(
        "input_size", input_size, lambda side: isinstance(side, int) and side > 0, "height and width in pixels"
    )
    limits = limits or Limits()
    findings = _check_unreadable(len(images), unreadable, limits)
    if images:
        findings += _check_count(len(images), limits, describe_other_files(passed_over or {}))
        findings += _check_duplicates(images, limits)
        findings += _check_sizes(images, input_size, limits)
        findings += _check_pixels(images, statistics, limits)
        findings += _check_mixture(images, statistics, limits)
    else:
        findings.append(_no_images(unreadable, describe_other_files(passed_over or {})))
    return sorted(findings, key=lambda finding: finding.severity)


def check_detections(detections_per_image: Sequence[int], limits: Limits | None = None) -> list[Finding]:
    """Check that the float network detects instances: images without detections do not calibrate its masks.

    Args:
        detections_per_image: number of instances that the float network detects in each image.
        limits: thresholds; None takes the defaults.

    Returns:
        Findings; empty if the check passes.

    Raises:
        CalibrationError: the numbers are not integers of 0 or more.
    """
    require_each("detections_per_image", detections_per_image, _is_count, "the number of instances in each image")
    limit = (limits or Limits()).undetected
    names = [f"image {index}" for index, count in enumerate(detections_per_image) if count == 0]
    return check_share(
        "few-detections",
        names,
        len(detections_per_image),
        limit,
        "have no detections of the float model",
        "Use images of the scenes that the robot will see, and check the checkpoint and its classes.",
    )


def check_channel_order(
    given: Sequence[Sequence[float]], swapped: Sequence[Sequence[float]], limits: Limits | None = None
) -> list[Finding]:
    """Check the channel order: the float model scores higher on images in the order that it was trained with.

    Images are compared by the sum of the cubes of their scores, so that confident detections count most.

    Args:
        given: scores of the detections in each image.
        swapped: scores of the detections in the same images with red and blue swapped.
        limits: thresholds; None takes the defaults.

    Returns:
        Findings; empty if the check passes.

    Raises:
        CalibrationError: the scores are not numbers from 0 to 1, or not of as many images.
    """
    for name, order in (("given", given), ("swapped", swapped)):
        require_each(name, order, _is_scores, "the scores of the instances in each image, 0 to 1")
    require(len(given) == len(swapped), "swapped", swapped, f"scores of the same {len(given)} images")
    limits = limits or Limits()
    before, after = (np.array([sum(score**3 for score in scores) for scores in order]) for order in (given, swapped))
    gains = after - before
    if len(gains) < 2 or not gains.sum() > 0:
        return []
    errors = float(gains.mean()) / max(float(gains.std(ddof=1)) / len(gains) ** 0.5, 1e-9)
    gain = float(gains.sum()) / max(float(before.sum()), 1e-9)
    if errors <= limits.swap_errors.warn or gain <= limits.swap_gain.warn:
        return []
    refused = errors > limits.swap_errors.refuse and gain > limits.swap_gain.refuse
    return [_swapped(len(gains), errors, gain, limits, refused=refused)]


def _is_count(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= 0


def _is_scores(values: Any) -> bool:
    is_sequence = hasattr(values, "__iter__") and not isinstance(values, (str, bytes))
    return is_sequence and all(isinstance(score, (int, float)) and 0 <= score <= 1 for score in values)


def _swapped(count: int, errors: float, gain: float, limits: Limits, *, refused: bool) -> Finding:
    past = limits.swap_errors.refuse if refused else limits.swap_errors.warn
    message = (
        f"With red and blue swapped, the float model scores {count} images higher: by {gain:.1%}, "
        f"which is {errors:.1f} standard errors, at most {past:g} expected. Check that images are saved as RGB, not "
        "BGR, and that the configuration has the checkpoint's channel order."
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
    message = f"No calibration images found{failed}. {GIVE_IMAGES}{beside}"
    return Finding("refuse", "no-images", message, 0, 1, None)


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
        "are near-duplicates of another image",
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
        f"must be enlarged more than {limits.enlargement:g} times to fill the network input of {height}x{width}",
        "Use images in the camera's resolution.",
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
    """Detect images from different sources."""
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
        "A robot's camera has one resolution: calibrate on images from that camera.",
    )
    if len(gray) < (1 - limits.gray_among_color.warn) * len(images):
        findings += check_share(
            "mixed-folder",
            gray,
            len(images),
            limits.gray_among_color,
            "have no color, unlike the others",
            "They may be depth images, masks or images of another camera: give a folder with images of one camera.",
        )
    return findings


def _size(image: CalibrationImage) -> tuple[int, int]:
    """Return the shorter and the longer side, so that the camera's orientation does not matter."""
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
        "contain only the values 0 and 1",
        "They may be floats of 0 to 1 saved as integers: multiply by 255 before saving.",
    ),
    _PixelCheck(
        "value-range",
        _narrow,
        lambda limits: limits.narrow,
        "use a small part of the 256 gray levels",
        "They may have a wrong scale, e.g. 12 bits stored in 16: scale them to 0 to 255 before saving.",
    ),
    _PixelCheck(
        "not-photographs",
        lambda pixels, limits: pixels.flatness > limits.flatness and not _blank(pixels, limits),
        lambda limits: limits.flat,
        "consist of areas of one color",
        "They may be label masks, drawings or screenshots: keep only camera images in the folder.",
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
        "That is rare unless red and blue are swapped: check that the images are RGB, not BGR.",
    ),
    _PixelCheck(
        "colorless-images",
        lambda pixels, limits: pixels.chroma < limits.gray,
        lambda limits: limits.colorless,
        "have no color",
        "If the robot has a color camera, calibrate on color images.",
    ),
)
