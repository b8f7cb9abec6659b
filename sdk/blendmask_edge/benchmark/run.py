"""One benchmark from beginning to end: what `blendmask bench` does."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Callable, List, Optional, Tuple

from blendmask_edge.arguments.values import check_count
from blendmask_edge.benchmark.baseline import (
    Baseline,
    check_comparable,
    is_time,
    new_baseline,
    read_baseline,
    write_baseline,
)
from blendmask_edge.benchmark.choose_runtime import choose_runtime
from blendmask_edge.benchmark.gate import Change, compare
from blendmask_edge.benchmark.history import Run, append, check_folder, this_commit
from blendmask_edge.benchmark.machine import this_machine, usable_cores
from blendmask_edge.benchmark.measure import MOST_FRAMES, Measured, Track, measure
from blendmask_edge.benchmark.record import Data, Record, Setting, Subject
from blendmask_edge.benchmark.reference import Reference
from blendmask_edge.benchmark.repeated import measure_baseline, measure_undisturbed
from blendmask_edge.errors import BaselineError, ConfigError, DisturbedError
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.labels import Labels
from blendmask_edge.predictor import MaskPredictor
from blendmask_edge.runtimes.registry import AUTO
from blendmask_edge.storage.atomic import check_writable

if TYPE_CHECKING:
    from pathlib import Path

    from blendmask_edge.storage.atomic import PathLike


@dataclass(frozen=True)
class Request:
    """What to measure, and the baseline to compare it with.

    bundle, images, annotations: the .bmz file, the folder of the images, their COCO JSON.
    runtime, threads, variant: as `MaskPredictor` takes them; what is left open is taken from the baseline.
    frames: least number of timed frames.
    baseline: file to compare with, None to compare with nothing.
    update: write the baseline anew instead of holding the run to it.
    accuracy_only: compare average precision, not time.
    record: folder to append a record of the run to, None to keep none.
    label: what the run is called in the history; the commit is recorded anyway.
    """

    bundle: PathLike
    images: PathLike
    annotations: PathLike
    runtime: str = AUTO
    threads: Optional[int] = None
    variant: Optional[str] = None
    frames: int = 200
    baseline: Optional[Path] = None
    update: bool = False
    accuracy_only: bool = False
    record: Optional[PathLike] = None
    label: str = ""


@dataclass(frozen=True)
class Outcome:
    """The measurements, remarks on them, and changes from the baseline.

    `changes` is empty where nothing could be compared. `disturbances` are signs that other work disturbed the times.
    `recorded` is the file of the record, None without one.
    """

    record: Record
    remarks: List[str]
    changes: Tuple[Change, ...]
    disturbances: Tuple[str, ...] = ()
    recorded: Optional[Path] = None

    @property
    def inconclusive(self) -> bool:
        """Whether times were to be compared, and cannot be."""
        return bool(self.disturbances) and any(is_time(change.metric) for change in self.changes)


def run(request: Request, track: Track = iter) -> Outcome:
    """Measure a bundle and compare it with a baseline; refuse what cannot work before the long part.

    Args:
        request: what to do.
        track: goes through the frames and may show how far it is.

    Raises:
        BaselineError: the baseline is unsound, or of another machine, data or setting.
        AnnotationError: the annotations do not fit the images or the bundle.
        OutputError: the baseline or the record cannot be written.
        ConfigError: the number of frames is out of range.
        DisturbedError: the baseline would be written from a disturbed run.
        BlendMaskError: as `MaskPredictor`.
    """
    check_count("frames", request.frames, MOST_FRAMES)
    former = _former(request)
    if request.record is not None:
        check_folder(request.record)
    request = _as_before(request, former)
    images = AnnotatedImages.open(request.images, request.annotations)
    request = _with_runtime(request, images)
    with MaskPredictor(request.bundle, request.runtime, request.threads, 0.0, request.variant) as predictor:
        images.check_labels(Labels(predictor.manifest.classes, predictor.manifest.category_ids))
        predictor.warm_up(image=images.read(images.ids[0]))
        setting = Setting(
            subject=Subject.of(predictor, request.threads),
            data=Data.of(request.annotations, len(images.ids)),
            machine=this_machine(),
        )
        compared = _comparable(request, former, setting)
        with Reference(request.threads or usable_cores()) as reference:
            measured = _measure(
                request,
                lambda: measure(predictor, images, reference, request.frames, track=track, threads=request.threads),
            )
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    record = Record(
        created=created,
        setting=setting,
        frames=measured.frames,
        metrics=measured.metrics,
        latency_quantiles_ms=measured.latency_quantiles_ms,
    )
    changes = () if compared is None else compare(compared, record.metrics, request.accuracy_only)
    if request.update and request.baseline is not None:
        write_baseline(request.baseline, new_baseline(record, former))
    recorded = None
    if request.record is not None:
        entry = Run(
            label=request.label,
            commit=this_commit(),
            record=record,
            changes=list(changes),
            disturbances=list(measured.disturbances),
        )
        recorded = append(request.record, entry)
    return Outcome(record, measured.remarks, changes, measured.disturbances, recorded)


def _measure(request: Request, measure_once: Callable[[], Measured]) -> Measured:
    """Measure as often as the use of the times asks for.

    Raises:
        DisturbedError: a baseline is to be written, and too many runs were disturbed.
    """
    if request.update:
        try:
            return measure_baseline(measure_once)
        except DisturbedError as error:
            raise DisturbedError(f"The baseline {request.baseline} was not written: {error}") from None
    has_use = request.baseline is not None or request.record is not None
    return measure_undisturbed(measure_once) if has_use and not request.accuracy_only else measure_once()


def _former(request: Request) -> Optional[Baseline]:
    """Return the baseline as it is now, None where there is none."""
    if request.update:
        if request.baseline is None:
            raise ConfigError("An update needs a place: name the baseline to write, e.g. bench/baselines/NAME.json")
        check_writable(request.baseline)
        if not os.path.exists(request.baseline):
            return None
    return None if request.baseline is None else read_baseline(request.baseline)


def _as_before(request: Request, former: Optional[Baseline]) -> Request:
    """Fill what the request leaves open by what the baseline was measured with."""
    if former is None:
        return request
    subject = former.record.setting.subject
    return replace(
        request,
        runtime=subject.runtime if request.runtime == AUTO else request.runtime,
        threads=subject.threads if request.threads is None else request.threads,
        variant=subject.variant if request.variant is None else request.variant,
    )


def _with_runtime(request: Request, images: AnnotatedImages) -> Request:
    """Replace "auto" by the runtime and the graph that it takes."""
    if request.runtime != AUTO:
        return request
    image = images.read(images.ids[0])
    runtime, variant = choose_runtime(request.bundle, request.threads, request.variant, image)
    return replace(request, runtime=runtime, variant=variant)


def _comparable(request: Request, former: Optional[Baseline], setting: Setting) -> Optional[Baseline]:
    """Return the former baseline where the run may be held against it; an update goes on without."""
    if former is None or request.baseline is None:
        return None
    try:
        check_comparable(request.baseline, former, setting, request.accuracy_only)
    except BaselineError:
        if request.update:
            return None
        raise
    return former
