"""`blendmask predict --processes`: the files of one process, and an interrupted run that continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge.cli.app import app
from blendmask_edge.cli.predict_many import SHARDS_NAME

pytest.importorskip("onnxruntime")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder of images, one of which is damaged."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((60, 80, 3), (200, 150, 40 * number), np.uint8))
    (folder / "2.png").write_bytes(b"not an image")
    return folder


def predict(*words: Any) -> Any:
    return CliRunner().invoke(app, ["predict", *map(str, words), "--runtime", "onnxruntime", "--threads", "1"])


def content(folder: Path) -> Any:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_several_processes_write_the_bytes_of_one(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    one = predict(bundle_path, images, "-o", tmp_path / "one")
    two = predict(bundle_path, images, "-o", tmp_path / "two", "--processes", "2")
    assert one.exit_code == two.exit_code == 1
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert len(json.loads((tmp_path / "two" / "instances.json").read_text())["images"]) == 5
    assert "1 of 6 files failed" in two.output
    assert two.output.replace("two", "one") == one.output


def test_nothing_readable_leaves_older_results_as_they_were(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "instances.json").write_text("older")
    result = predict(bundle_path, images / "2.png", images / "2.png", "-o", tmp_path / "out", "--processes", "2")
    assert result.exit_code == 1
    assert content(tmp_path / "out") == {"instances.json": b"older"}


@pytest.mark.parametrize(
    "words, message",
    [(["0", "--processes", "2"], "for images"), (["--processes", "2", "--ray", "auto"], "give --processes, or --ray")],
)
def test_what_cannot_be_divided_is_refused(
    words: List[str], message: str, bundle_path: Path, images: Path, tmp_path: Path
) -> None:
    result = predict(bundle_path, images, *words, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_command_that_failed_goes_on_from_finished_images(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    words = [bundle_path, images, "-o", tmp_path / "out", "--processes", "2"]
    (tmp_path / "out" / "instances.json").mkdir(parents=True)
    assert "instances.json there is a folder" in " ".join(predict(*words).output.split())
    finished = times(tmp_path / "out" / SHARDS_NAME)
    assert len(finished) == 5
    (tmp_path / "out" / "instances.json").rmdir()
    assert predict(*words).exit_code == 1
    assert times(tmp_path / "out") == finished, "no image is predicted again"
    assert not (tmp_path / "out" / SHARDS_NAME).exists()


def times(folder: Path) -> Any:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.overlay.jpg")}


def test_overlays_of_a_killed_run_on_other_images_do_not_appear(
    bundle_path: Path, images: Path, tmp_path: Path
) -> None:
    left = tmp_path / "out" / SHARDS_NAME
    left.mkdir(parents=True)
    (left / "former.overlay.jpg").write_bytes(b"half")
    (left / "000000-of-000001.shard").write_bytes(b"of other work")
    assert predict(bundle_path, images / "0.png", "-o", tmp_path / "out", "--processes", "2").exit_code == 0
    assert set(content(tmp_path / "out")) == {"0.overlay.jpg", "instances.json"}


def test_a_folder_for_no_results_is_not_made(bundle_path: Path, images: Path, tmp_path: Path) -> None:
    result = predict(bundle_path, images / "2.png", "-o", tmp_path / "new" / "out", "--processes", "2")
    assert result.exit_code == 1
    assert not (tmp_path / "new").exists()
