"""Time and score a predictor: accuracy and latency come from the same frames, so no model can have one of each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Protocol, Sequence, Tuple

from blendmask_edge.benchmark.disturbance import ReadCpuTimes, disturbances, read_cpu_times
from blendmask_edge.benchmark.latency import Frame, remarks, summarize
from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.evaluation.bootstrap import score_intervals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.evaluation.annotations import AnnotatedImages
    from blendmask_edge.instances import Instances
    from blendmask_edge.predictor import Timings

Clock = Callable[[], float]
Track = Callable[[Sequence[int]], Iterable[int]]
"""Goes through a sequence and may show how far it is."""

WARM_UP = 5


class TimedPredictor(Protocol):
    """What is measured: a `MaskPredictor`, or anything that tells its times as one does."""

    @property
    def timings(self) -> Timings:
        """Seconds of the last call."""
        ...

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Find the instances in an image (H, W, 3) uint8 RGB."""
        ...


@dataclass(frozen=True)
class Measured:
    """Metrics of accuracy and time, the number of timed frames, and remarks on how far the times can be trusted.

    `disturbances` are signs that other work shared the processor; with one, the times mean nothing.
    """

    metrics: Dict[str, float]
    frames: int
    remarks: List[str]
    disturbances: Tuple[str, ...] = ()


def measure(
    predictor: TimedPredictor,
    images: AnnotatedImages,
    reference: Callable[[], None],
    least_frames: int = 200,
    clock: Clock = time.perf_counter,
    track: Track = iter,
    resamples: int = 500,
    cpu_times: ReadCpuTimes = read_cpu_times,
) -> Measured:
    """Show each image to a predictor, time each frame and score the first result of each image.

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

    Raises:
        AnnotationError: an image has another size than annotated.
        ImageError: an image cannot be read.
    """
    for image_id in images.ids[:WARM_UP]:
        _time_frame(predictor, images, image_id, reference, clock)
    rounds = max(1, -(-least_frames // len(images.ids)))
    frames: List[Frame] = []
    results: List[Dict[str, Any]] = []
    before = cpu_times()
    for image_id in track(list(images.ids) * rounds):
        instances, frame = _time_frame(predictor, images, image_id, reference, clock)
        if len(frames) < len(images.ids):
            results += instances.to_coco(image_id)
        frames.append(frame)
    signs = tuple(disturbances(frames, before, cpu_times()))
    metrics = score(images.coco, results, images.ids)
    if resamples:
        metrics.update(score_intervals(images.coco, results, images.ids, resamples))
    metrics.update(summarize(frames))
    return Measured(metrics, len(frames), [*remarks(frames), *signs], signs)


def _time_frame(
    predictor: TimedPredictor,
    images: AnnotatedImages,
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
