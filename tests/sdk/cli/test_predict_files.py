"""A camera may run for days: what was predicted lies on disk and not in memory, and is whole however the work ends."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any, Iterator

import cv2
import numpy as np
import pytest

from blendmask_edge import MaskPredictor
from blendmask_edge.cli.predict_files import Options, predict_files

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def predictor(bundle_path: Path) -> Iterator[MaskPredictor]:
    """Return an open predictor."""
    with MaskPredictor(bundle_path, "onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture
def white(tmp_path: Path) -> Path:
    """Return an image with three instances."""
    path = tmp_path / "white.png"
    cv2.imwrite(str(path), np.full((32, 48, 3), 255, np.uint8))
    return path


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(predictor: MaskPredictor, white: Path, tmp_path: Path) -> None:
    peaks = []
    for number, count in enumerate((10, 10, 310)):
        tracemalloc.start()
        predictions = predict_files(predictor, [white] * count, tmp_path / str(number), print, Options())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert predictions.image_count == count
    assert peaks[2] - peaks[1] < 500_000


class Interrupted(io.BytesIO):
    """A file whose sixth write, of all files together, is interrupted when half of it is done."""

    writes = 0

    def write(self, data: Any) -> int:
        Interrupted.writes += 1
        if Interrupted.writes == 6:
            super().write(data[: len(data) // 2])
            raise KeyboardInterrupt
        return super().write(data)


def test_an_interruption_amid_an_image_leaves_a_whole_document(
    predictor: MaskPredictor, white: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Interrupted, "writes", 0)
    monkeypatch.setattr("blendmask_edge.cli.predict_files.tempfile.TemporaryFile", lambda **_: Interrupted())
    predictions = predict_files(predictor, [white] * 3, tmp_path / "out", print, Options())
    assert predictions.interrupted
    assert predictions.image_count == 1
    document = json.loads((tmp_path / "out/instances.json").read_text())
    assert [image["id"] for image in document["images"]] == [1]
    assert [annotation["id"] for annotation in document["annotations"]] == [1, 2, 3]
    assert [category["name"] for category in document["categories"]] == ["red", "green", "blue"]
