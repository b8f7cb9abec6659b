"""Many frames and many predictors in one process: memory, threads and descriptors that stay behind."""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.lib.robot.process import MemoryTrend, held
from bench.lib.robot.rows import rounded
from blendmask_edge import MaskPredictor
from blendmask_edge.bundle import write_bundle
from tests.sdk.small_bundles import build_graph, describe

Image = NDArray[np.uint8]
_MOST_READINGS, _FRAMES_PER_READING = 200, 20
_WARM_CYCLES = 50


def soak_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of the soak with a network of a few operators, so that what is measured is what lies around it."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = small_bundle(Path(folder))
        yield frames_row(bundle, options.frames)
        yield cycles_row(bundle, options.cycles)


def small_bundle(folder: Path) -> Path:
    """Write a bundle whose network computes the mean of each channel: three instances with masks of 56 x 56."""
    graphs = {"cpu": build_graph()}
    return write_bundle(folder / "small.bmz", describe(graphs), graphs)


def frames_row(bundle: Path, count: int) -> dict[str, Any]:
    """Predict `count` frames of a stream; take the masks of every tenth as crops, RLE and drawing."""
    trend = MemoryTrend([], [])
    every = max(_FRAMES_PER_READING, count // _MOST_READINGS)
    start = time.perf_counter()
    with MaskPredictor(bundle, "onnxruntime", 1, score_threshold=0) as predictor:
        before = held()
        with predictor.stream(noise(count), "never") as stream:
            for result in stream:
                if result.index % 10 == 0:
                    result.instances.crops()
                    result.instances.rles()
                    result.instances.draw(result.frame)
                if result.index % every == 0:
                    trend.read()
        report, after = stream.report, held(before)
    return {
        "name": "soak/frames",
        "frames": report.frames,
        "failed": report.failed,
        "minutes": rounded((time.perf_counter() - start) / 60),
        "megabytes_per_hour": rounded(trend.slope),
        "megabytes_grown": rounded(trend.growth),
        "megabytes": rounded(after.megabytes),
        "threads": after.threads - before.threads,
        "descriptors": after.descriptors - before.descriptors,
        "target_megabytes_per_hour": 1.0,
    }


def cycles_row(bundle: Path, count: int) -> dict[str, Any]:
    """Open a predictor, predict an image and three frames of a stream, and close it, `count` times."""
    images = list(noise(3))
    for _ in range(min(count, _WARM_CYCLES)):
        _cycle(bundle, images)
    before = held()
    for _ in range(count):
        _cycle(bundle, images)
    after = held(before)
    return {
        "name": "soak/cycles",
        "cycles": count,
        "megabytes_grown": rounded(after.megabytes - before.megabytes),
        "threads": after.threads - before.threads,
        "descriptors": after.descriptors - before.descriptors,
        "target_megabytes_grown": 1.0,
    }


def _cycle(bundle: Path, images: list[Image]) -> None:
    with MaskPredictor(bundle, "onnxruntime", 1, score_threshold=0) as predictor:
        predictor(images[0]).rles()
        # A loop that is left early is the harder case.
        for _ in itertools.islice(predictor.stream(images), 2):
            pass


def noise(count: int) -> Iterator[Image]:
    """Frames of 80 x 60 whose content and number of instances change."""
    random = np.random.default_rng(0)
    base = random.integers(0, 256, (60, 80, 3), np.uint8)
    for number in range(count):
        yield np.roll(base, number, axis=0) if number % 7 else np.full_like(base, number % 256)
