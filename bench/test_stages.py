"""Time each stage of a frame separately: `pytest bench/`.

pytest-benchmark stores, compares and plots the times (`--benchmark-autosave`, `--benchmark-compare`). `blendmask bench`
measures accuracy and speed of a bundle together against a reviewed baseline.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bench.conftest import IMAGE
from blendmask_edge import Instances, Labels, read_image
from blendmask_edge.benchmark.machine import usable_cores
from blendmask_edge.benchmark.reference import Reference
from blendmask_edge.bundle import Manifest
from blendmask_edge.imaging import preprocess
from blendmask_edge.runtimes.registry import Session

Image = NDArray[np.uint8]
CAMERAS = {"network-size": None, "vga": (480, 640), "full-hd": (1080, 1920)}


def test_decode(benchmark: Any) -> None:
    benchmark(read_image, IMAGE)


@pytest.mark.parametrize("camera", CAMERAS)
def test_preprocess(benchmark: Any, manifest: Manifest, image: Image, camera: str) -> None:
    height, width = CAMERAS[camera] or (manifest.input.height, manifest.input.width)
    frame = cv2.resize(image, (width, height))
    bounds = (manifest.input.height, manifest.input.width)
    preprocessed = benchmark(preprocess, frame, bounds, manifest.input.pad_value, "bgr")
    assert preprocessed.image.shape == (1, *bounds, 3)


def test_network(benchmark: Any, manifest: Manifest, session: Session, image: Image) -> None:
    bounds = (manifest.input.height, manifest.input.width)
    benchmark(session.run, preprocess(image, bounds, manifest.input.pad_value).image)


def test_postprocess(benchmark: Any, manifest: Manifest, session: Session, image: Image) -> None:
    preprocessed = preprocess(image, (manifest.input.height, manifest.input.width), manifest.input.pad_value)
    outputs = session.run(preprocessed.image)
    instances = benchmark(
        Instances.from_outputs,
        outputs,
        preprocessed.transform,
        Labels(manifest.classes, manifest.category_ids),
    )
    assert len(instances) > 0


def test_paste(benchmark: Any, instances: Instances) -> None:
    benchmark.extra_info["instances"] = len(instances)
    assert len(benchmark(instances.crops)) == len(instances) > 0


def test_rle(benchmark: Any, instances: Instances) -> None:
    benchmark.extra_info["instances"] = len(instances)
    assert len(benchmark(instances.rles)) == len(instances) > 0


def test_reference(benchmark: Any, threads: int | None) -> None:
    """The work that `blendmask bench` takes its ratios to."""
    with Reference(threads or usable_cores()) as reference:
        benchmark(reference)
