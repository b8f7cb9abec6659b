"""Rate of a stream against its slowest stage, and of one that drops frames."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.lib.quiet import quietly
from bench.lib.robot.rows import rounded
from bench.lib.scenes import frames
from blendmask_edge import MaskPredictor
from blendmask_edge.imaging import resize

Image = NDArray[np.uint8]
STAGES = ("capture", "preprocess", "inference", "postprocess")
FRAME_SIZE, FRAMES, ROUNDS = (480, 640), 150, 3


def stream_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rates of a video as a stream against its slowest stage."""
    with (
        tempfile.TemporaryDirectory() as folder,
        MaskPredictor(options.bundle, "onnxruntime", options.threads, score_threshold=0) as predictor,
    ):
        video = _write_video(Path(folder) / "drive.avi", frames(options.data, "val", FRAMES))
        predictor.warm_up(image=frames(options.data, "val", 1)[0])
        readings = quietly(
            lambda: [(stages_alone(predictor, video), streamed(predictor, video)) for _ in range(ROUNDS)]
        )
        stages = np.median([alone for alone, _ in readings], axis=0)
        rate = float(np.median([stream["rate"] for _, stream in readings]))
        yield {
            "name": "stream",
            "threads": options.threads,
            "cores": len(os.sched_getaffinity(0)),
            **{f"{name}_ms": rounded(1000 * seconds) for name, seconds in zip(STAGES, stages, strict=True)},
            "stream_rate": rounded(rate),
            "stream_share": rounded(rate * float(stages.max())),
            **{name: rounded(float(np.median([stream[name] for _, stream in readings]))) for name in _TIMES},
            "target_stream_share": 0.9,
        }
        paced = quietly(lambda: paced_stream(predictor, video, 2 / float(stages.max())))
        yield {"name": "stream/paced", **{name: rounded(value) for name, value in paced.items()}}


_TIMES = ("latency_p50_ms", "jitter_ms")


def stages_alone(predictor: MaskPredictor, video: Path) -> list[float]:
    """Median seconds of each of `STAGES`, one frame after the other."""
    times: list[tuple[float, ...]] = []
    capture = cv2.VideoCapture(str(video))
    while True:
        start = time.perf_counter()
        is_read, frame = capture.read()
        captured = time.perf_counter() - start
        if not is_read:
            return np.median(times, axis=0).tolist()
        predictor(np.asarray(frame, np.uint8), channels="bgr")
        times.append((captured, *predictor.timings))


def streamed(predictor: MaskPredictor, video: Path) -> dict[str, float]:
    """Rate, latency and jitter of the video as a stream, from its tenth result on."""
    with predictor.stream(video, "never", channels="bgr") as stream:
        received = [time.perf_counter() for _ in stream]
    report, steady = stream.report, received[10:]
    rate = (len(steady) - 1) / (steady[-1] - steady[0])
    return {"rate": rate, "latency_p50_ms": 1000 * report.latency, "jitter_ms": 1000 * report.jitter}


def paced_stream(predictor: MaskPredictor, video: Path, rate: float) -> dict[str, float]:
    """Latency, jitter and losses where a camera gives `rate` frames per second and the oldest are dropped."""
    with predictor.stream(_paced(_read(video), rate), "oldest", channels="bgr") as stream:
        for _ in stream:
            pass
    report = stream.report
    return {
        "camera_rate": rate,
        "stream_rate": report.rate,
        "latency_p50_ms": 1000 * report.latency,
        "jitter_ms": 1000 * report.jitter,
        "dropped_share": report.dropped / (report.dropped + report.frames),
    }


def _paced(images: Iterator[Image], rate: float) -> Iterator[Image]:
    start = time.perf_counter()
    for number, image in enumerate(images):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        yield image


def _read(video: Path) -> Iterator[Image]:
    capture = cv2.VideoCapture(str(video))
    while (read := capture.read())[0]:
        yield np.asarray(read[1], np.uint8)


def _write_video(path: Path, images: Sequence[Image]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, FRAME_SIZE[::-1])
    for image in images:
        writer.write(np.ascontiguousarray(resize(image, FRAME_SIZE)[..., ::-1]))
    writer.release()
    return path
