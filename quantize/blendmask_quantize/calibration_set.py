"""Calibration pictures: sampled, judged by the guard, made ready for the network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendmask_calibration.errors import CalibrationError as EstimationError
from blendmask_calibration.guard import Finding, check_detections, check_images, refusals
from blendmask_calibration.images import CalibrationImage, describe, list_images, sample
from blendmask_calibration.ranges import estimator_named
from blendmask_calibration.record import CalibrationRecord
from blendmask_calibration.statistics import PictureStatistics, picture_statistics
from blendmask_edge.errors import CalibrationError, ImageError
from blendmask_edge.imaging import prepare, read_image

OnImage = Callable[[], None]
Announce = Callable[[int], OnImage]


@dataclass(frozen=True)
class CalibrationOptions:
    """Which pictures calibrate, and how ranges are estimated.

    Attributes:
        folder: searched with its subfolders.
        count: at most this many pictures are drawn.
        seed: of the draw.
        estimator: name of a range estimator of `blendmask_calibration`.
        allow: codes of the guard's refusals that are overridden.
    """

    folder: Path
    count: int = 128
    seed: int = 0
    estimator: str = "mse"
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class CalibrationSet:
    """Pictures fit for calibration.

    Attributes:
        pictures: uint8 (1, H, W, 3) RGB each, prepared for the network.
        record: what a bundle remembers of them.
        warnings: what the guard found worth saying.
    """

    pictures: list[NDArray[np.uint8]]
    record: CalibrationRecord
    warnings: list[Finding]


@contextmanager
def for_users() -> Iterator[None]:
    """Turn an error of `blendmask_calibration`, which knows nothing of the SDK, into the one that users meet.

    Raises:
        CalibrationError: with the same message.
    """
    try:
        yield
    except EstimationError as error:
        raise CalibrationError(str(error)) from error


@dataclass(frozen=True)
class _Readable:
    picture: NDArray[np.uint8]
    image: CalibrationImage
    statistics: PictureStatistics


def load_calibration_set(
    options: CalibrationOptions, size: tuple[int, int], pad_value: Sequence[int], announce: Announce | None = None
) -> CalibrationSet:
    """Draw, read, judge and prepare the calibration pictures.

    Args:
        options: which pictures.
        size: height and width of the network input.
        pad_value: RGB grey levels of the padding.
        announce: told how many pictures are read; returns what to call after each.

    Raises:
        CalibrationError: no such folder, estimator or override, or the guard refuses the set; every reason that is not
            overridden is named.
    """
    with for_users():
        paths = list_images(options.folder)
        estimator_named(options.estimator)
        refusals([], options.allow)
        drawn = sample(paths, options.count, options.seed)
    readable, unreadable = _read_all(drawn, options.folder, size, pad_value, announce)
    images = tuple(entry.image for entry in readable)
    findings = check_images(images, [entry.statistics for entry in readable], unreadable, size)
    record = CalibrationRecord(images, len(paths), options.seed, options.estimator)
    return _judged(CalibrationSet([entry.picture for entry in readable], record, []), findings, options.allow)


def judge_detections(
    calibration: CalibrationSet, detections_per_image: Sequence[int], allow: Collection[str]
) -> CalibrationSet:
    """The set with what the guard says of the objects that the float network finds on its pictures.

    Args:
        calibration: the set.
        detections_per_image: number of objects on each of its pictures.
        allow: codes of refusals that are overridden.

    Raises:
        CalibrationError: almost nothing is found, and that is not overridden.
    """
    return _judged(calibration, check_detections(detections_per_image), allow)


def _judged(calibration: CalibrationSet, findings: Sequence[Finding], allow: Collection[str]) -> CalibrationSet:
    refused = refusals(findings, allow)
    if refused:
        raise CalibrationError("\n".join(str(finding) for finding in refused))
    old, warned = calibration.record, [finding.code for finding in findings if finding.severity == "warn"]
    overridden = [finding.code for finding in findings if finding.severity == "refuse"]
    record = replace(old, overrides=(*old.overrides, *overridden), warnings=(*old.warnings, *warned))
    return CalibrationSet(calibration.pictures, record, [*calibration.warnings, *findings])


def _read_all(
    paths: Sequence[Path], root: Path, size: tuple[int, int], pad_value: Sequence[int], announce: Announce | None
) -> tuple[list[_Readable], list[tuple[Path, str]]]:
    """Pictures that can be read, and path and reason of each file that cannot."""
    readable: list[_Readable] = []
    unreadable: list[tuple[Path, str]] = []
    on_image = announce(len(paths)) if announce is not None else None
    for path in paths:
        try:
            readable.append(_read(path, root, size, pad_value))
        except (ImageError, OSError) as error:
            unreadable.append((path, str(error)))
        if on_image is not None:
            on_image()
    return readable, unreadable


def _read(path: Path, root: Path, size: tuple[int, int], pad_value: Sequence[int]) -> _Readable:
    rgb = read_image(path)
    return _Readable(prepare(rgb, size, pad_value).image, describe(path, rgb, root), picture_statistics(rgb))
