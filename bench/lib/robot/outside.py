"""Time of a frame outside of the network: preprocess, instances, and masks as crops and as RLE."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.lib.quiet import quietly
from bench.lib.robot.rows import rounded
from bench.lib.scenes import frames
from blendmask_edge import Instances, Labels, MaskPredictor
from blendmask_edge.bundle.manifest import Manifest
from blendmask_edge.bundle.tensors import Outputs
from blendmask_edge.imaging import preprocess, resize

Image = NDArray[np.uint8]
SIZES = {"640x480": (480, 640), "1920x1080": (1080, 1920)}
COUNTS = (0, 10, 100)
ROUNDS = 40
_SIDES = (0.04, 0.3)
"""Sides of boxes as shares of the input's height, evenly spread on a logarithmic scale."""
_TARGETS = {"LITE0_RT": 0.2, "RT_R_50": 0.05}
"""Largest share of an INT8 frame of 640 x 480 with ten instances that lies outside of the network."""
Times = dict[str, list[float]]


def outside_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows by image size and number of instances, for each bundle."""
    for path in [options.bundle, *options.others]:
        with MaskPredictor(path, "onnxruntime", 1, score_threshold=0) as predictor:
            for size in SIZES:
                measure = partial(_measure, predictor, frames(options.data, "val", 8), size)
                times = measure() if options.busy else quietly(measure)
                yield from (_row(predictor.manifest, size, count, times, options.busy) for count in COUNTS)


def _measure(predictor: MaskPredictor, images: list[Image], size: str) -> Mapping[str, list[float]]:
    """Milliseconds of each stage, all stages in turn in each round, so that other work disturbs all of them alike."""
    cv2.setNumThreads(1)
    times: Times = {}
    manifest = predictor.manifest
    spec, labels = manifest.input, Labels(manifest.classes, manifest.category_ids)
    resized = [np.ascontiguousarray(resize(image, SIZES[size])) for image in images]
    size_of_input = (spec.height, spec.width)
    predictor.warm_up(2, resized[0])
    for number in range(ROUNDS + 2):
        image = resized[number % len(resized)]
        into = times if number > 1 else {}
        prepared = _timed(into, "preprocess", partial(preprocess, image, size_of_input, spec.pad_value))
        predictor(image)
        into.setdefault("inference", []).append(1000 * predictor.timings.inference)
        for count in COUNTS:
            outputs = _outputs(manifest, prepared.transform.resized, count, number)
            make: Callable[[], Instances] = partial(Instances.from_outputs, outputs, prepared.transform, labels, 0.0)
            instances = _timed(into, f"{count}/postprocess", make)
            _timed(into, f"{count}/crops", instances.crops)
            _timed(into, f"{count}/rles", make().rles)
    return times


def _timed(times: Times, name: str, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = work()
    times.setdefault(name, []).append(1000 * (time.perf_counter() - start))
    return result


def _row(manifest: Manifest, size: str, count: int, times: Mapping[str, list[float]], is_busy: bool) -> dict[str, Any]:
    median = {name: float(np.median(values)) for name, values in times.items()}
    outside = sum(median[name] for name in ("preprocess", f"{count}/postprocess", f"{count}/crops"))
    row: dict[str, Any] = {
        "name": f"outside/{manifest.model}/{size}/{count}",
        "preprocess_ms": rounded(median["preprocess"]),
        "postprocess_ms": rounded(median[f"{count}/postprocess"]),
        "crops_ms": rounded(median[f"{count}/crops"]),
        "rles_ms": rounded(median[f"{count}/rles"]),
        "inference_ms": rounded(median["inference"]),
        "outside_share": rounded(outside / (outside + median["inference"])),
        "busy": is_busy,
    }
    if (size, count) == ("640x480", 10) and manifest.model in _TARGETS:
        row["target_outside_share"] = _TARGETS[manifest.model]
    if (size, count) == ("1920x1080", 100):
        row |= {"target_crops_ms": 5.0, "target_rles_ms": 15.0}
    return row


def _outputs(manifest: Manifest, resized: tuple[int, int], count: int, seed: int) -> Outputs:
    """Outputs of a network with `count` instances: ellipses in boxes of many sizes."""
    draw = np.random.default_rng(seed)
    sides = resized[0] * np.exp(draw.uniform(np.log(_SIDES[0]), np.log(_SIDES[1]), (count, 2)))
    corners = draw.uniform(0, 1, (count, 2)) * (np.array(resized[::-1]) - sides)
    boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    axis = np.linspace(-1, 1, manifest.mask_size)
    ellipse = 8 * (0.9 - axis**2 - axis[:, None] ** 2)
    logits = ellipse + draw.normal(0, 0.5, (count, *ellipse.shape))
    scores = np.sort(draw.uniform(0.5, 1, count))[::-1]
    class_ids = draw.integers(0, len(manifest.classes), count)
    return Outputs(
        boxes[None], scores.astype(np.float32)[None], class_ids.astype(np.int32)[None], logits.astype(np.float32)[None]
    )
