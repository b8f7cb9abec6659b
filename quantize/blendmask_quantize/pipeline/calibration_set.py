"""Calibration images: sampled, judged by the guard, made ready for the network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendmask_calibration.checks.findings import Finding, refusals
from blendmask_calibration.checks.guard import check_detections, check_images
from blendmask_calibration.checks.statistics import ImageStatistics, image_statistics
from blendmask_calibration.dataset import CalibrationImage, describe, list_images, other_files, sample
from blendmask_calibration.errors import CalibrationError as EstimationError
from blendmask_calibration.estimators import competing
from blendmask_calibration.record import CalibrationRecord
from blendmask_edge.errors import CalibrationError, ImageError
from blendmask_edge.imaging import preprocess, read_image

HELD_MOST = 16
"""Images that quantized networks are compared on, where the folder has as many to spare."""
_HELD_LEAST = 8
_HELD_SHARE = 8
OnImage = Callable[[], None]
Announce = Callable[[int], OnImage]


@dataclass(frozen=True)
class CalibrationOptions:
    """Which images calibrate, and how ranges are estimated.

    Attributes:
        folder: searched with its subfolders.
        count: at most this many images are drawn.
        seed: of the draw.
        estimator: name of a range estimator of `blendmask_calibration`, or "auto".
        allow: codes of the guard's refusals that are overridden.
    """

    folder: Path
    count: int = 128
    seed: int = 0
    estimator: str = "mse"
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class CalibrationSet:
    """Images fit for calibration.

    Attributes:
        images: uint8 (1, H, W, 3) RGB each, prepared for the network; they give the ranges.
        record: what a bundle remembers of them.
        warnings: what the guard found worth saying.
        held_out: images like them that give no ranges, for comparing networks on.
    """

    images: list[NDArray[np.uint8]]
    record: CalibrationRecord
    warnings: list[Finding]
    held_out: list[NDArray[np.uint8]]

    @property
    def compared(self) -> list[NDArray[np.uint8]]:
        """The images to compare networks on: those held out, or some of the others where none could be spared."""
        return self.held_out or self.images[:HELD_MOST]


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
    image: NDArray[np.uint8]
    entry: CalibrationImage
    statistics: ImageStatistics


def load_calibration_set(
    options: CalibrationOptions, size: tuple[int, int], pad_value: Sequence[int], announce: Announce | None = None
) -> CalibrationSet:
    """Draw, read, judge and prepare the calibration images.

    The last images of the order that the seed gives are held out, 16 at most: those that were not drawn where the
    folder has enough, else one in eight of the drawn.

    Args:
        options: which images.
        size: height and width of the network input.
        pad_value: RGB gray levels of the padding.
        announce: told how many images are read; returns what to call after each.

    Raises:
        CalibrationError: no such folder, estimator or override, or the guard refuses the set; every reason that is not
            overridden is named.
    """
    with for_users():
        paths = list_images(options.folder)
        competing(options.estimator)
        refusals([], options.allow)
        drawn, spare = sample(paths, options.count, options.seed), _spare(paths, options)
    on_image = announce(len(drawn) + len(spare)) if announce is not None else _silent
    readable, unreadable = _read_all(drawn, options.folder, size, pad_value, on_image)
    images = [found.entry for found in readable]
    statistics, beside = [entry.statistics for entry in readable], other_files(options.folder)
    findings = check_images(images, statistics, unreadable, size, passed_over=beside)
    kept, held = _hold_out(readable, _read_all(spare, options.folder, size, pad_value, on_image)[0])
    return checked(_calibration_set(kept, held, len(paths), options), findings, options.allow)


def with_detection_counts(
    calibration: CalibrationSet, detections_per_image: Sequence[int], allow: Collection[str]
) -> CalibrationSet:
    """The set with what the guard says of the instances that the float network finds on its images.

    Args:
        calibration: the set.
        detections_per_image: number of instances on each of its images.
        allow: codes of refusals that are overridden.

    Raises:
        CalibrationError: almost nothing is found, and that is not overridden.
    """
    return checked(calibration, check_detections(detections_per_image), allow)


def checked(calibration: CalibrationSet, findings: Sequence[Finding], allow: Collection[str]) -> CalibrationSet:
    """The set with findings about it, or about what became of it.

    Args:
        calibration: the set.
        findings: of the guard.
        allow: codes of refusals that are overridden.

    Raises:
        CalibrationError: a refusal is not overridden; the message names all of them.
    """
    refused = refusals(findings, allow)
    if refused:
        raise CalibrationError("\n".join(str(finding) for finding in refused))
    old, warned = calibration.record, [finding.code for finding in findings if finding.severity == "warn"]
    overridden = [finding.code for finding in findings if finding.severity == "refuse"]
    record = replace(old, overrides=_joined(old.overrides, overridden), warnings=_joined(old.warnings, warned))
    return replace(calibration, record=record, warnings=[*calibration.warnings, *findings])


def hold_out(
    calibration: CalibrationSet, paths: Sequence[Path], folder: Path, size: tuple[int, int], pad_value: Sequence[int]
) -> CalibrationSet:
    """The set with other images held out: the first of `paths` that give no ranges.

    Args:
        calibration: the set.
        paths: images below `folder`.
        folder: the one that the set was drawn from.
        size: height and width of the network input.
        pad_value: RGB gray levels of the padding.
    """
    used = {folder / image.name for image in calibration.record.images}
    chosen = [path for path in paths if path not in used][:HELD_MOST]
    held, _ = _read_all(chosen, folder, size, pad_value, _silent)
    record = replace(calibration.record, held_out=tuple(found.entry for found in held))
    return replace(calibration, record=record, held_out=[entry.image for entry in held])


def _joined(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    """Both in order, each once."""
    return tuple(dict.fromkeys((*old, *new)))


def _spare(paths: Sequence[Path], options: CalibrationOptions) -> list[Path]:
    """The last of the images that are not drawn; none where these are too few."""
    left = sample(paths, max(len(paths), 1), options.seed)[options.count :]
    return left[-HELD_MOST:] if len(left) >= _HELD_LEAST else []


def _hold_out(drawn: list[_Readable], spare: list[_Readable]) -> tuple[list[_Readable], list[_Readable]]:
    """Images that give ranges, and images that do not."""
    if spare:
        return drawn, spare
    kept = len(drawn) - min(len(drawn) // _HELD_SHARE, HELD_MOST)
    return drawn[:kept], drawn[kept:]


def _calibration_set(
    kept: list[_Readable], held: list[_Readable], found: int, options: CalibrationOptions
) -> CalibrationSet:
    images, held_out = (tuple(found.entry for found in part) for part in (kept, held))
    record = CalibrationRecord(images, found, options.seed, options.estimator, held_out=held_out)
    return CalibrationSet([entry.image for entry in kept], record, [], [entry.image for entry in held])


def _read_all(
    paths: Sequence[Path], root: Path, size: tuple[int, int], pad_value: Sequence[int], on_image: OnImage
) -> tuple[list[_Readable], list[tuple[Path, str]]]:
    """Images that can be read, and path below `root` and reason of each file that cannot."""
    readable: list[_Readable] = []
    unreadable: list[tuple[Path, str]] = []
    for path in paths:
        try:
            readable.append(_read(path, root, size, pad_value))
        except (ImageError, OSError) as error:
            unreadable.append((path.relative_to(root), _reason(path, error)))
        on_image()
    return readable, unreadable


def _reason(path: Path, error: Exception) -> str:
    """The first sentence of an error, without the path that is named beside it."""
    return str(error).removeprefix(f"{path} ").split(". ")[0]


def _silent() -> None:
    """Nobody asked to be told."""


def _read(path: Path, root: Path, size: tuple[int, int], pad_value: Sequence[int]) -> _Readable:
    rgb = read_image(path)
    return _Readable(preprocess(rgb, size, pad_value).image, describe(path, rgb, root), image_statistics(rgb))
