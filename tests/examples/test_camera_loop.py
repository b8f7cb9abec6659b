"""The camera loop runs on a video made of the shipped images and on folders, and refuses in one message."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from blendmask_edge.bundle import write_bundle
from tests.sdk.small_bundles import build_graph, describe

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]
IMAGES = sorted((ROOT / "examples/homescenes/evaluation").glob("*.jpg"))[:6]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graphs = {"cpu": build_graph()}
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny.bmz", describe(graphs), graphs)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "scenes.avi"
    first = cv2.imread(str(IMAGES[0]))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, first.shape[1::-1])
    for image in IMAGES:
        writer.write(cv2.imread(str(image)))
    writer.release()
    return path


def loop(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "examples/camera_loop.py", *map(str, words), "--threads", "1", "--score", "0.1"]
    environment = {**os.environ, "BLENDMASK_CACHE": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def frames_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


@pytest.mark.parametrize("name", ["masks.avi", "masks.mp4"])
def test_video_becomes_a_video_with_overlays(bundle: Path, video: Path, tmp_path: Path, name: str) -> None:
    result = loop(bundle, video, "--output", tmp_path / name)
    assert result.returncode == 0, result.stderr
    assert f"{len(IMAGES)} frames, " in result.stdout
    assert name in result.stdout
    before, after = frames_of(video), frames_of(tmp_path / name)
    assert len(after) == len(before) == len(IMAGES)
    for plain, drawn in zip(before, after, strict=True):
        changed = np.abs(plain.astype(int) - drawn).max(axis=2) > 40
        height = plain.shape[0]
        assert changed[: height // 2].mean() > 0.02, "no mask was drawn"
        assert changed[height - 20 :].any(), "no frame rate was written"


def test_folder_of_images_of_any_size_becomes_a_video(bundle: Path, tmp_path: Path) -> None:
    for number, size in enumerate([(64, 48), (50, 90), (64, 48)]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((*size[::-1], 3), 200, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    result = loop(bundle, tmp_path, "--output", tmp_path / "out.avi")
    assert result.returncode == 0, result.stderr
    assert [frame.shape for frame in frames_of(tmp_path / "out.avi")] == [(48, 64, 3)] * 3


def test_missing_source_is_one_message_and_writes_nothing(bundle: Path, tmp_path: Path) -> None:
    result = loop(bundle, tmp_path / "none.mp4", "--output", tmp_path / "masks.mp4")
    assert result.returncode == 1
    assert "does not exist" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "masks.mp4").exists()


def test_folder_without_images_is_one_message_and_writes_nothing(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = loop(bundle, tmp_path / "empty", "--output", tmp_path / "masks.mp4")
    assert result.returncode == 1
    assert "holds no image" in result.stderr
    assert "Traceback" not in result.stderr
    assert "video" not in result.stdout
    assert not (tmp_path / "masks.mp4").exists()


def test_image_of_a_phone_is_upright(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32)).save(tmp_path / "images/phone.jpg", exif=exif)
    assert loop(bundle, tmp_path / "images", "--output", tmp_path / "masks.avi").returncode == 0
    assert frames_of(tmp_path / "masks.avi")[0].shape == (64, 32, 3)


def test_output_in_a_missing_folder_is_one_message(bundle: Path, video: Path, tmp_path: Path) -> None:
    result = loop(bundle, video, "--output", tmp_path / "none/masks.mp4")
    assert result.returncode == 1
    assert "error: Cannot write " in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif("GUI:                           NONE" not in cv2.getBuildInformation(), reason="OpenCV has windows")
def test_opencv_without_windows_is_one_message(bundle: Path, video: Path) -> None:
    result = loop(bundle, video)
    assert result.returncode == 1
    assert "Give --output masks.mp4" in result.stderr
