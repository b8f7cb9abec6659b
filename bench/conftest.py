"""Provide the stage suites with a bundle and an image with instances.

`BLENDMASK_BENCH_BUNDLE` names the bundle; without it, the one of `make demo` is used, and if there is none, stages that
need a bundle are skipped. `BLENDMASK_BENCH_THREADS` limits the threads of the network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from blendmask_edge import Bundle, Instances, MaskPredictor, read_image
from blendmask_edge.bundle import Manifest
from blendmask_edge.runtimes.registry import Session, SessionOptions, select

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "out/demo/lite0_rt.bmz"
IMAGE = ROOT / "examples/homescenes/evaluation/val_000000.jpg"
BUNDLE = "BLENDMASK_BENCH_BUNDLE"
THREADS = "BLENDMASK_BENCH_THREADS"


@pytest.fixture(scope="session")
def bundle_path() -> Path:
    """The bundle that is measured."""
    path = Path(os.environ.get(BUNDLE) or DEMO)
    if not path.is_file():
        pytest.skip(f"no bundle at {path}: type `make demo`, or set {BUNDLE} to a .bmz file")
    return path


@pytest.fixture(scope="session")
def threads() -> int | None:
    """Threads within an operator; None leaves them to the runtime."""
    asked = os.environ.get(THREADS)
    if asked and not (asked.isdecimal() and int(asked)):
        pytest.fail(f"{THREADS} is {asked!r}: give a number, 1 or more, or leave it out", pytrace=False)
    return int(asked) if asked else None


@pytest.fixture(scope="session")
def manifest(bundle_path: Path) -> Manifest:
    """Return the manifest of the bundle."""
    return Bundle.open(bundle_path).manifest


@pytest.fixture(scope="session")
def session(bundle_path: Path, threads: int | None) -> Iterator[Session]:
    """The `cpu` graph in ONNX Runtime."""
    pytest.importorskip("onnxruntime")
    session = select("onnxruntime").load().load(Bundle.open(bundle_path).graph("cpu"), SessionOptions(threads))
    yield session
    session.close()


@pytest.fixture(scope="session")
def image() -> NDArray[np.uint8]:
    """A shipped image, (384, 512, 3) uint8 RGB."""
    return read_image(IMAGE)


@pytest.fixture(scope="session")
def instances(bundle_path: Path, image: NDArray[np.uint8]) -> Instances:
    """The instances in the image."""
    with MaskPredictor(bundle_path, "onnxruntime", score_threshold=0, variant="cpu") as predictor:
        return predictor(image)
