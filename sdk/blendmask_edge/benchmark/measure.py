"""Time and score a predictor: accuracy and latency come from the same frames, so no model can have one of each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Mapping, Optional, Protocol, Sequence, Tuple

from blendmask_edge.benchmark.disturbance import ReadCpuTimes, disturbances, read_cpu_times
from blendmask_edge.benchmark.latency import Frame, latency_quantiles, remarks, summarize
from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.evaluation.bootstrap import score_intervals
from blendmask_edge.hardware.energy import EnergyMeter
from blendmask_edge.hardware.memory import peak_megabytes, reset_peak
from blendmask_edge.hardware.timing import REST_SECONDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.instances import Instances
    from blendmask_edge.prediction.image_pipeline import Timings

Clock = Callable[[], float]
Track = Callable[[Sequence[int]], Iterable[int]]
"""Goes through a sequence and may show how far it is."""

WARM_UP = 5
MOST_FRAMES = 10**6
"""Frames that may be asked for; each leaves its times."""


class TimedPredictor(Protocol):
    """A `MaskPredictor`, or another predictor that reports its times in the same way."""

    @property
    def timings(self) -> Timings:
        """Seconds of the last call."""
        ...

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Find the instances in an image (H, W, 3) uint8 RGB."""
        ...


class Images(Protocol):
    """Images to show, such as `AnnotatedImages`."""

    @property
    def ids(self) -> Sequence[int]:
        """Ids of the images."""
        ...

    def read(self, image_id: int) -> NDArray[np.uint8]:
        """Return an image (H, W, 3) uint8 RGB."""
        ...


@dataclass(frozen=True)
class Measured:
    """Metrics of accuracy and time, the number of timed frames, and remarks on how far the times can be trusted.

    `disturbances` are signs that other work shared the processor; with one, the times mean nothing. `results` are the
    COCO results of all images.
    """

    metrics: Dict[str, float]
    frames: int
    remarks: List[str]
    disturbances: Tuple[str, ...] = ()
    latency_quantiles_ms: List[float] = field(default_factory=list)
    results: List[Dict[str, Any]] = field(default_factory=list, repr=False)


def measure(
    predictor: TimedPredictor,
    images: AnnotatedImages,
    reference: Callable[[], None],
    least_frames: int = 200,
    clock: Clock = time.perf_counter,
    track: Track = iter,
    resamples: int = 500,
    cpu_times: ReadCpuTimes = read_cpu_times,
    threads: Optional[int] = None,
) -> Measured:
    """Show each image to a predictor, time each frame and score the first result of each image.

    Where the system tells, `memory_mb` is the most memory that the process had meanwhile, and `energy_mj`,
    `gpu_energy_mj` and `board_energy_mj` the energy of the processor packages, the first GPU and a Jetson board for a
    frame, with reading the image and the reference.
    Images are shown again, all of them, until `least_frames` are timed; a few frames before do not count.

    Args:
        predictor: what is measured.
        images: annotated.
        reference: run before each frame, so that its time tells the state of the machine then.
        least_frames: timed frames; 100 make a 99th percentile.
        clock: seconds; of the same kind as the predictor's own.
        track: goes through the frames.
        resamples: draws of images for the intervals of AP; 0 leaves them out.
        cpu_times: tells what the processors have done so far.
        threads: of the predictor; other processes may have the cores that these leave. None for all cores.

    Raises:
        AnnotationError: an image has another size than annotated.
        ImageError: an image cannot be read.
    """
    (measured,) = measure_in_turn(
        [predictor], images, reference, least_frames, clock, track, resamples, cpu_times, threads=threads
    )
    return measured


def measure_in_turn(
    predictors: Sequence[TimedPredictor],
    images: Images,
    reference: Callable[[], None],
    least_frames: int = 200,
    clock: Clock = time.perf_counter,
    track: Track = iter,
    resamples: int = 500,
    cpu_times: ReadCpuTimes = read_cpu_times,
    sleep: Callable[[float], None] = time.sleep,
    threads: Optional[int] = None,
) -> List[Measured]:
    """Measure several predictors as `measure` does one, each image in turn, so that load falls on all alike.

    Several rest before each frame, since threads of a runtime go on looking for work beside the next one.

    Args:
        predictors: what is measured.
        images: without annotations, nothing is scored.
        reference, least_frames, clock, track, resamples, cpu_times, threads: as `measure`.
        sleep: waits for seconds.
    """
    rest = REST_SECONDS if len(predictors) > 1 else 0.0
    for image_id in images.ids[:WARM_UP]:
        for predictor in predictors:
            _time_frame(predictor, images, image_id, reference, clock)
    rounds = max(1, -(-least_frames // len(images.ids)))
    frames: List[List[Frame]] = [[] for _ in predictors]
    results: List[List[Dict[str, Any]]] = [[] for _ in predictors]
    alone = len(predictors) == 1
    has_peak = alone and reset_peak()
    before = cpu_times()
    with EnergyMeter() as meter:
        for number, image_id in enumerate(track(list(images.ids) * rounds)):
            for place in _alternating(len(predictors), number):
                if rest:
                    sleep(rest)
                instances, frame = _time_frame(predictors[place], images, image_id, reference, clock)
                frames[place].append(frame)
                if number < len(images.ids):
                    results[place] += instances.to_coco(image_id)
    signs = partial(disturbances, before=before, after=cpu_times(), threads=threads)
    resources = {name: 1000 * joules / len(frames[0]) for name, joules in meter.spent.items()} if alone else {}
    peak = peak_megabytes() if has_peak else None
    if peak is not None:
        resources["memory_mb"] = peak
    return [_summed_up(*pair, images, resamples, signs, resources) for pair in zip(frames, results)]


def _alternating(count: int, number: int) -> Sequence[int]:
    """Return the places of predictors, in the other order at every second image."""
    return range(count) if number % 2 == 0 else range(count - 1, -1, -1)


def _summed_up(
    frames: List[Frame],
    results: List[Dict[str, Any]],
    images: Images,
    resamples: int,
    signs_of: Callable[[Sequence[Frame]], List[str]],
    resources: Mapping[str, float],
) -> Measured:
    signs = tuple(signs_of(frames))
    metrics: Dict[str, float] = {}
    if isinstance(images, AnnotatedImages):
        metrics.update(score(images.coco, results, images.ids))
        if resamples:
            metrics.update(score_intervals(images.coco, results, images.ids, resamples))
    metrics.update(summarize(frames))
    metrics.update(resources)
    notes = [*remarks(frames), *signs]
    return Measured(metrics, len(frames), notes, signs, latency_quantiles(frames), results)


def _time_frame(
    predictor: TimedPredictor,
    images: Images,
    image_id: int,
    reference: Callable[[], None],
    clock: Clock,
) -> Tuple[Instances, Frame]:
    start = clock()
    image = images.read(image_id)
    decoded = clock()
    reference()
    ready = clock()
    instances = predictor(image)
    instances.crops()
    whole = clock() - ready
    preprocess, network, _ = predictor.timings
    return instances, Frame(decoded - start, preprocess, network, whole - preprocess - network, ready - decoded)
