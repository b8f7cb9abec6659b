"""Time to decode a JPEG over that of OpenCV, interleaved."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any
from unittest import mock

import cv2
import numpy as np

from bench.lib.robot.outside import SIZES
from bench.lib.robot.rows import rounded
from bench.lib.scenes import frames
from blendmask_edge.imaging import decode_image, decoding, encode_jpeg, resize

_ROUNDS = 60


def decode_rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row by image size."""
    importlib.import_module("simplejpeg")
    for name, size in SIZES.items():
        data = encode_jpeg(np.ascontiguousarray(resize(frames(options.data, "val", 1)[0], size)))
        row: dict[str, Any] = {"name": f"decode/{name}"}
        for decoder in ("simplejpeg", "pillow"):
            with nullcontext() if decoder == "simplejpeg" else mock.patch.dict(sys.modules, {"simplejpeg": None}):
                decoding.find_simplejpeg.cache_clear()
                row[f"{decoder}_ratio"] = _ratio(data)
        decoding.find_simplejpeg.cache_clear()
        yield row


def _ratio(data: bytes) -> float:
    """Median over rounds of the ratio of two times that are taken right after each other."""
    pixels = np.frombuffer(data, np.uint8)

    def ours() -> None:
        decode_image(data, "the image")

    def theirs() -> None:
        cv2.cvtColor(np.asarray(cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED)), cv2.COLOR_BGR2RGB)

    return rounded(float(np.median([_timed(ours) / _timed(theirs) for _ in range(_ROUNDS)])))


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
