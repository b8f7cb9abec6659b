"""`blendmask visualize`: what it writes and says."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner, Result

from blendmask_edge.cli.app import app
from tests.quantize import small_networks


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["visualize", *(str(word) for word in words)], prog_name="blendmask")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    cv2.imwrite(str(path), small_networks.image(2)[0])
    return path


def test_it_writes_one_image_and_says_what_it_shows(checkpoint_path, image, tmp_path):
    result = call(checkpoint_path, image, "-o", tmp_path / "out.png", "--instances", 2, "--score", 0)
    assert result.exit_code == 0, result.output
    assert "2 of " in result.stdout
    assert f"Saved the figure to {tmp_path / 'out.png'}" in result.stdout
    more = call(checkpoint_path, image, "-o", tmp_path / "more.png", "--instances", 4, "--score", 0)
    assert "4 of " in more.stdout
    small, large = (cv2.imread(str(tmp_path / name)) for name in ("out.png", "more.png"))
    assert large.shape[0] > small.shape[0] > 300


def test_nothing_sure_enough_leaves_the_bases(checkpoint_path, image, tmp_path):
    result = call(checkpoint_path, image, "-o", tmp_path / "out.png", "--score", 1)
    assert result.exit_code == 0, result.output
    assert "0 of " in result.stdout
    assert cv2.imread(str(tmp_path / "out.png")) is not None


@pytest.mark.parametrize("checkpoint, file_name, output, said", [
    ("missing.safetensors", "scene.png", "out.png", "no checkpoint at"),
    (None, "missing.png", "out.png", "missing.png"),
    (None, "scene.png", "out.jpg", "must be a PNG"),
    (None, "scene.png", "nowhere/out.png", "nowhere"),
])  # fmt: skip
def test_bad_input_is_one_message(checkpoint, file_name, output, said, checkpoint_path, image, tmp_path):
    chosen = checkpoint_path if checkpoint is None else tmp_path / checkpoint
    result = call(chosen, image.parent / file_name, "-o", tmp_path / output)
    assert result.exit_code == 1
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
