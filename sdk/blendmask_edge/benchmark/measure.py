"""Time and score a predictor: accuracy and latency come from the same frames, so no model can have one of each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Protocol, Sequence, Tuple

from blendmask_edge.benchmark.latency import Frame, remarks, summarise
from blendmask_edge.evaluation.average_precision import score
from blendmask_edge.evaluation.bootstrap import score_intervals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.evaluation.annotations import AnnotatedPictures
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
        """Find the objects in a picture (H, W, 3) uint8 RGB."""
        ...


@dataclass(frozen=True)
class Measured:
    """Metrics of accuracy and time, the number of timed frames, and remarks on how far the times can be trusted."""

    metrics: Dict[str, float]
    frames: int
    remarks: List[str]


def measure(
    predictor: TimedPredictor,
    pictures: AnnotatedPictures,
    reference: Callable[[], None],
    least_frames: int = 200,
    clock: Clock = time.perf_counter,
    track: Track = iter,
    resamples: int = 500,
) -> Measured:
    """Show each picture to a predictor, time each frame and score the first result of each picture.

    Pictures are shown again, all of them, until `least_frames` are timed; a few frames before do not count.

    Args:
        predictor: what is measured.
        pictures: annotated.
        reference: run before each frame, so that its time tells the state of the machine then.
        least_frames: timed frames; 100 make a 99th percentile.
        clock: seconds; of the same kind as the predictor's own.
        track: goes through the frames.
        resamples: draws of pictures for the intervals of AP; 0 leaves them out.

    Raises:
        AnnotationError: a picture has another size than annotated.
        ImageError: a picture cannot be read.
    """
    for image_id in pictures.ids[:WARM_UP]:
        _time_frame(predictor, pictures, image_id, reference, clock)
    rounds = max(1, -(-least_frames // len(pictures.ids)))
    frames: List[Frame] = []
    results: List[Dict[str, Any]] = []
    for image_id in track(list(pictures.ids) * rounds):
        instances, frame = _time_frame(predictor, pictures, image_id, reference, clock)
        if len(frames) < len(pictures.ids):
            results += instances.to_coco(image_id)
        frames.append(frame)
    metrics = score(pictures.coco, results, pictures.ids)
    if resamples:
        metrics.update(score_intervals(pictures.coco, results, pictures.ids, resamples))
    metrics.update(summarise(frames))
    return Measured(metrics, len(frames), remarks(frames))


def _time_frame(
    predictor: TimedPredictor,
    pictures: AnnotatedPictures,
    image_id: int,
    reference: Callable[[], None],
    clock: Clock,
) -> Tuple[Instances, Frame]:
    start = clock()
    image = pictures.read(image_id)
    decoded = clock()
    reference()
    ready = clock()
    instances = predictor(image)
    instances.crops()
    whole = clock() - ready
    prepare, network, _ = predictor.timings
    return instances, Frame(decoded - start, prepare, network, whole - prepare - network, ready - decoded)
