"""A day of a stream in simulated time: cameras that are lost, damaged JPEG, other sizes, a runtime that fails."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib.robot.process import held
from bench.lib.robot.rows import rounded
from bench.lib.robot.simulated_camera import Clock, JpegFrames, SimulatedCamera, failing_runtime, installed, same_shade
from bench.lib.robot.soak import small_bundle
from blendmask_edge import BlendMaskError, ImageError, InferenceError, MaskPredictor, SourceError

RUNTIME = "runtime exception"
PER_HOUR = {
    "lost for seconds": 6.0, "lost for a minute": 1.0, "size changes": 6.0, "damaged JPEG": 30.0, RUNTIME: 12.0
}  # fmt: skip


@dataclass
class Seen:
    """Results and errors that the application received.

    results: frames with instances. wrong: those whose instances belong to another frame.
    failures: frames without result, by class of the error.
    lost: streams that ended because their camera did not come back in time.
    """

    results: int = 0
    wrong: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    lost: int = 0

    def fail(self, _: int, error: BlendMaskError) -> None:
        """Take the error of a frame."""
        kind = next((kind for kind in (ImageError, InferenceError) if isinstance(error, kind)), BlendMaskError)
        self.failures[kind.__name__] += 1

    def take(self, frame: Any, instances: Any) -> None:
        """Take a result."""
        self.results += 1
        red = 255 * float(instances.scores[0]) if len(instances) else -1.0
        self.wrong += not same_shade(red, float(frame[..., 0].mean())) or instances.image_size != frame.shape[:2]


def day_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of the simulated hours: the whole, and each fault."""
    with tempfile.TemporaryDirectory() as folder:
        yield from simulated_day(small_bundle(Path(folder)), options.hours, options.rate)


def simulated_day(
    bundle: Path, hours: float, rate: float, per_hour: dict[str, float] = PER_HOUR
) -> list[dict[str, Any]]:
    """Predict a camera and JPEG frames in turn, half an hour each.

    Args:
        bundle: from `small_bundle`.
        hours: of simulated time.
        rate: frames per simulated second.
        per_hour: how often each fault occurs.
    """
    camera = SimulatedCamera(Clock(), rate, np.random.default_rng(0), per_hour)
    seen, start = Seen(), time.perf_counter()
    with MaskPredictor(bundle, "onnxruntime", 1, score_threshold=0) as predictor:
        predictor.warm_up(3)
        with installed(camera), failing_runtime(camera, RUNTIME):
            _half_hour(predictor, camera, seen, 0)
            before = held()
            for number in range(1, round(2 * hours)):
                _half_hour(predictor, camera, seen, number)
        after = held(before)
    whole = {
        "name": "soak/day",
        "hours": hours,
        "frames_per_second": rate,
        "frames": camera.delivered,
        "results": seen.results,
        "failed": sum(seen.failures.values()),
        "wrong": seen.wrong,
        "megabytes_grown": rounded(after.megabytes - before.megabytes),
        "threads": after.threads - before.threads,
        "descriptors": after.descriptors - before.descriptors,
        "minutes": rounded((time.perf_counter() - start) / 60),
    }
    return [whole, *_fault_rows(camera, seen)]


def _half_hour(predictor: MaskPredictor, camera: SimulatedCamera, seen: Seen, number: int) -> None:
    camera.end = camera.clock.now + 1800
    while camera.clock.now < camera.end:
        source: Any = JpegFrames(camera) if number % 2 else 0
        try:
            stream = predictor.stream(source, "never", on_error=seen.fail)
        except SourceError:  # not back yet
            continue
        try:
            for frame, instances in stream:
                seen.take(frame, instances)
        except SourceError:
            seen.lost += camera.clock.now < camera.end


def _fault_rows(camera: SimulatedCamera, seen: Seen) -> Iterator[dict[str, Any]]:
    handled = {
        "damaged JPEG": seen.failures["ImageError"],
        RUNTIME: seen.failures["InferenceError"],
    }
    for name, times in sorted(camera.faults.items()):
        yield {"name": f"soak/day/{name}", "times": times, **({"handled": handled[name]} if name in handled else {})}
    yield {"name": "soak/day/stream ended by a lost camera, opened again by the application", "times": seen.lost}
