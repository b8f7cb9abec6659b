"""The public `visualize`: a figure as pixels and as a file; bad arguments before torch is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from blendmask_edge.errors import BlendMaskError, CheckpointError, ConfigError, ImageError, OutputError
from blendmask_edge.imaging import read_image
from blendmask_quantize import visualize
from tests.quantize import small_networks


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    cv2.imwrite(str(path), small_networks.image(2)[0])
    return path


def test_the_file_holds_the_pixels_that_are_returned(checkpoint_path: Path, image: Path, tmp_path: Path) -> None:
    figure = visualize(checkpoint_path, image, tmp_path / "out.png", instances=2, score=0)
    assert (figure.shown, figure.pixels.dtype) == (2, np.uint8)
    assert figure.detected >= 2
    assert np.array_equal(read_image(tmp_path / "out.png"), figure.pixels)


def test_pixels_are_taken_and_nothing_is_written(checkpoint_path: Path, image: Path, tmp_path: Path) -> None:
    by_path = visualize(checkpoint_path, image, instances=1, score=0)
    by_pixels = visualize(checkpoint_path, read_image(image), instances=1, score=0)
    assert by_path.pixels.shape == by_pixels.pixels.shape
    assert list(tmp_path.iterdir()) == [image]


@pytest.mark.parametrize(
    "error, message, change",
    [
        (CheckpointError, "no checkpoint at", {"checkpoint": "nowhere.pth"}),
        (ImageError, "nowhere.png", {"image": "nowhere.png"}),
        (ImageError, "expected uint8", {"image": np.zeros((4, 4, 3))}),
        (OutputError, "must be a PNG", {"output": "out.jpg"}),
        (OutputError, "Cannot write", {"output": "nowhere/out.png"}),
        (ConfigError, "score is", {"score": 2}),
        (ConfigError, "whole number from 0", {"instances": -1}),
        (ConfigError, "did you mean LITE0_RT", {"config": "LITE0"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_arguments_are_one_message(
    checkpoint_path: Path, image: Path, error: type[BlendMaskError], message: str, change: dict[str, Any]
) -> None:
    with pytest.raises(error, match=message):
        visualize(**{"checkpoint": checkpoint_path, "image": image, **change})


def test_they_are_refused_without_torch(checkpoint_path: Path) -> None:
    program = (
        "import sys; from blendmask_quantize import visualize\n"
        f"try: visualize({str(checkpoint_path)!r}, 'nowhere.png')\n"
        "except Exception as error: print(type(error).__name__, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "ImageError False\n"
