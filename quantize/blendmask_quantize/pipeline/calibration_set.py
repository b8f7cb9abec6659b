"""Calibration images: sampled, checked by the guard, preprocessed for the network."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendmask_calibration.checks.findings import Finding, refusals
from blendmask_calibration.checks.guard import check_images
from blendmask_calibration.checks.statistics import ImageStatistics, image_statistics
from blendmask_calibration.dataset import CalibrationDataset, Sample, Selection, file_sample
from blendmask_calibration.errors import CalibrationError as EstimationError
from blendmask_calibration.estimators import competing
from blendmask_calibration.images import CalibrationImage
from blendmask_calibration.record import CalibrationRecord
from blendmask_edge.errors import CalibrationError, ImageError
from blendmask_edge.imaging import preprocess, read_image
from blendmask_quantize.pipeline.settings import CalibrationSettings
from blendmask_quantize.runs.progress import OnStep, Progress, silent

HELD_OUT_MOST = 16
"""Images that quantized networks are compared on, where the dataset has as many to spare."""
COUNT_MOST = 4096
"""Images of a sample: all are in memory, and their names in the manifest. Ranges settle with some hundred."""
LONGEST_NAMES = 2**20
"""Bytes of the names of a sample, which a manifest has room for."""


@dataclass(frozen=True)
class HoldOut:
    """How many images are held out.

    Attributes:
        most: where the dataset has as many beyond the sample.
        least: as many must be beyond the sample, or images of the sample are held out instead.
        share: of the sample, 0 to 1, that is held out in this case.
        needed: fewer are refused.
    """

    most: int
    least: int
    share: float
    needed: int = 0


TO_COMPARE = HoldOut(HELD_OUT_MOST, 8, 1 / 8)
TO_MEASURE = HoldOut(64, 16, 2 / 5, needed=16)
"""To measure average precision on, which needs more images than a comparison of instances."""
FRAMES = 12
"""Images that are kept as the camera gave them, to time a bundle on."""


@dataclass(frozen=True)
class CalibrationReport:
    """The findings about calibration images and the images used.

    Attributes:
        record: for the manifest.
        warnings: findings of the guard; the refusals among them were overridden.
    """

    record: CalibrationRecord
    warnings: tuple[Finding, ...] = ()

    def checked(self, findings: Sequence[Finding], allow: Collection[str]) -> CalibrationReport:
        """The report with more findings.

        Args:
            findings: of the guard.
            allow: codes of refusals that are overridden.

        Raises:
            CalibrationError: a refusal is not overridden; the message names all of them.
        """
        refused = refusals(findings, allow)
        if refused:
            raise CalibrationError("\n".join(str(finding) for finding in refused))
        old = self.record
        warned = [finding.code for finding in findings if finding.severity == "warn"]
        overridden = [finding.code for finding in findings if finding.severity == "refuse"]
        record = replace(old, overrides=_joined(old.overrides, overridden), warnings=_joined(old.warnings, warned))
        return CalibrationReport(record, (*self.warnings, *findings))

    def checked_anew(self, allow: Collection[str]) -> CalibrationReport:
        """The report with the same findings, checked with other overrides.

        Raises:
            CalibrationError: as `checked`.
        """
        return CalibrationReport(replace(self.record, overrides=(), warnings=())).checked(self.warnings, allow)


@dataclass(frozen=True)
class CalibrationSet:
    """Images fit for calibration.

    Attributes:
        images: uint8 (1, H, W, 3) RGB each, preprocessed for the network; they give the ranges.
        report: on all of them.
        held_out: images like them that give no ranges, for comparing networks on.
        frames: a few of the images as the camera gave them, (H, W, 3) uint8 RGB.
    """

    images: list[NDArray[np.uint8]]
    report: CalibrationReport
    held_out: list[NDArray[np.uint8]]
    frames: list[NDArray[np.uint8]] = field(default_factory=list)

    @property
    def record(self) -> CalibrationRecord:
        """For the manifest."""
        return self.report.record

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings of the guard."""
        return self.report.warnings

    def checked(self, findings: Sequence[Finding], allow: Collection[str]) -> CalibrationSet:
        """The set with more findings; see `CalibrationReport.checked`."""
        return replace(self, report=self.report.checked(findings, allow))

    @property
    def compared(self) -> list[NDArray[np.uint8]]:
        """The images to compare networks on: those held out, or some of the others where none could be spared."""
        return self.held_out or self.images[:HELD_OUT_MOST]


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
    """An image that could be read: preprocessed, its record and statistics."""

    image: NDArray[np.uint8]
    entry: CalibrationImage
    statistics: ImageStatistics


@dataclass
class _Reader:
    """Reads samples one after another; keeps the first frames, and the name and reason of each that cannot be read."""

    size: tuple[int, int]
    pad_value: Sequence[int]
    on_image: OnStep
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    count: int = 0

    def read(self, samples: Iterable[Sample]) -> list[_Readable]:
        """The readable ones of some samples."""
        return [readable for readable in map(self._read, samples) if readable is not None]

    def _read(self, sample: Sample) -> _Readable | None:
        self.count += 1
        try:
            rgb = sample.load(read_image)
            entry = sample.describe(rgb)
        except (ImageError, OSError) as error:
            self.unreadable.append((Path(sample.name), _reason(sample, error)))
            return None
        finally:
            self.on_image()
        if len(self.frames) < FRAMES:
            self.frames.append(rgb)
        return _Readable(preprocess(rgb, self.size, self.pad_value).image, entry, image_statistics(rgb))


def check_calibration_settings(settings: CalibrationSettings, allow: Collection[str] = ()) -> None:
    """See that estimator, count and overrides exist.

    Args:
        settings: of the sample and the ranges.
        allow: codes of refusals that are overridden.

    Raises:
        CalibrationError: one does not.
    """
    with for_users():
        competing(settings.estimator)
        refusals([], allow)
        if not 1 <= settings.count <= COUNT_MOST:
            raise EstimationError(
                f"count is {settings.count}. Expected the number of images to sample, 1 to {COUNT_MOST}; 100 to 300 "
                "are enough."
            )


def load_calibration_set(
    dataset: CalibrationDataset, settings: CalibrationSettings, size: tuple[int, int], pad_value: Sequence[int],
    progress: Progress = silent, allow: Collection[str] = (), hold_out: HoldOut | None = None,
) -> CalibrationSet:  # fmt: skip
    """Sample, read, check and preprocess the calibration images.

    Images are held out: of those beyond the sample where the dataset has enough, else of the sample.

    Args:
        dataset: the images.
        settings: how many, sampled with which seed, and the estimator.
        size: height and width of the network input.
        pad_value: RGB gray levels of the padding.
        progress: announces how many images are read.
        allow: codes of refusals that are overridden.
        hold_out: how many are held out; None takes `TO_COMPARE`.

    Raises:
        CalibrationError: no such estimator or override, an item of the dataset that is not an image, too few images to
            hold out, or the guard refuses the set; every reason that is not overridden is named.
    """
    limits = hold_out or TO_COMPARE
    check_calibration_settings(settings, allow)
    with for_users():
        selection = dataset.select(settings.count, settings.seed, limits.most)
        count = _count(selection.total, settings.count, limits)
        if count != settings.count:
            selection = dataset.select(count, settings.seed, limits.most)
        _check_names(selection)
        reader = _Reader(size, pad_value, progress("reading", _expected(selection, count, limits)))
        sampled = reader.read(selection.samples)
        unreadable = list(reader.unreadable)
        spare = list(selection.spare)
        others = reader.read(spare) if len(spare) >= min(limits.least, limits.most) else []
        images, statistics = [one.entry for one in sampled], [one.statistics for one in sampled]
        findings = check_images(images, statistics, unreadable, size, passed_over=dataset.other_files())
    selected, held_out = (sampled, others) if others else _hold_out(sampled, limits)
    if len(held_out) < limits.needed:
        raise _too_few(len(held_out), limits)
    record = CalibrationRecord(
        tuple(one.entry for one in selected), reader.count if selection.total is None else selection.total,
        settings.seed, settings.estimator, held_out=tuple(one.entry for one in held_out),
    )  # fmt: skip
    images_of = ([one.image for one in part] for part in (selected, held_out))
    calibration = CalibrationSet(next(images_of), CalibrationReport(record), next(images_of), reader.frames)
    return calibration.checked(findings, allow)


def _check_names(selection: Selection) -> None:
    """See that the names can be recorded in a manifest, which has a limit."""
    names = [] if selection.total is None else [one.name for one in (*selection.samples, *selection.spare)]
    length = sum(len(os.fsencode(name)) for name in names)
    if length > LONGEST_NAMES:
        raise EstimationError(
            f"The paths of {len(names)} images have {length} bytes, and the bundle records at most {LONGEST_NAMES}. "
            "Sample fewer images, or give folders shorter names."
        )


def _count(total: int | None, count: int, limits: HoldOut) -> int:
    """How many images to sample, so that as many as needed can be held out beyond them.

    Raises:
        CalibrationError: there are too few images.
    """
    if total is None or not limits.needed:
        return count
    sampled = min(count, math.floor((1 - limits.share) * total))
    if total - sampled < limits.needed:
        raise _too_few(total - sampled, limits)
    return sampled


def _too_few(available: int, limits: HoldOut) -> CalibrationError:
    enough = math.floor((limits.needed - 1) / limits.share) + 1
    return CalibrationError(
        f"{available} calibration images can be held out, and {limits.needed} are needed to measure on: give {enough} "
        "images or more"
    )


def _expected(selection: Selection, count: int, limits: HoldOut) -> int:
    """Return the number of images to read, as far as it is known."""
    if selection.total is None:
        return count
    spare = min(max(selection.total - count, 0), limits.most)
    return min(selection.total, count) + (spare if spare >= min(limits.least, limits.most) else 0)


def read_frames(dataset: CalibrationDataset, settings: CalibrationSettings) -> list[NDArray[np.uint8]]:
    """The first calibration images as the camera gave them, (H, W, 3) uint8 RGB; those that cannot be read left out."""
    with for_users():
        reader = _Reader((1, 1), (0, 0, 0), silent("", 0))
        reader.read(islice(dataset.select(settings.count, settings.seed, 0).samples, FRAMES))
    return reader.frames


def hold_out(
    calibration: CalibrationSet, paths: Sequence[Path], folder: Path, size: tuple[int, int], pad_value: Sequence[int],
    most: int = HELD_OUT_MOST,
) -> CalibrationSet:  # fmt: skip
    """The set with other images held out: the first of `paths` that give no ranges.

    Args:
        calibration: the set.
        paths: images below `folder`.
        folder: that the set was sampled from.
        size: height and width of the network input.
        pad_value: RGB gray levels of the padding.
        most: how many are held out.
    """
    used = {folder / image.name for image in calibration.record.images}
    chosen = [file_sample(path, folder) for path in paths if path not in used][:most]
    held_out = _Reader(size, pad_value, silent("", 0)).read(chosen)
    record = replace(calibration.record, held_out=tuple(one.entry for one in held_out))
    report = replace(calibration.report, record=record)
    return replace(calibration, report=report, held_out=[one.image for one in held_out])


def _joined(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    """Both in order, each once."""
    return tuple(dict.fromkeys((*old, *new)))


def _hold_out(readable: list[_Readable], limits: HoldOut) -> tuple[list[_Readable], list[_Readable]]:
    """Images that give ranges, and images that do not."""
    count = len(readable) - min(int(limits.share * len(readable)), limits.most)
    return readable[:count], readable[count:]


def _reason(sample: Sample, error: Exception) -> str:
    """The first sentence of an error, without the path that is named beside it."""
    return str(error).removeprefix(f"{sample.path} ").split(". ")[0]
