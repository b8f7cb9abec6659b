"""`blendmask predict` on videos, cameras and URLs: overlays, identities, rate and losses, a window."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, List

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from blendmask_edge import InferenceError
from blendmask_edge.cli.app import app
from blendmask_edge.cli.sources import find_sources, is_video, stem_of
from blendmask_edge.runtimes.shared import SharedSession
from blendmask_edge.streaming import capture as capturing
from tests.sdk.rectangles import Rectangle, paint, rectangle_network
from tests.sdk.streaming.test_sources import Camera

__all__ = ["rectangle_network"]
pytest.importorskip("onnxruntime")


def call(*words: object) -> Any:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(word) for word in words], prog_name="blendmask")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Return a video of a red rectangle that moves, 30 frames a second."""
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (96, 64))
    for number in range(5):
        box = (10 + 4 * number, 10, 40 + 4 * number, 40)
        writer.write(np.ascontiguousarray(paint([Rectangle(box)], (64, 96))[..., ::-1]))
    writer.release()
    return path


def test_video_reports_its_rate(bundle_path: Path, video: Path, tmp_path: Path) -> None:
    result = call("predict", bundle_path, video, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert f"{video}: 5 frames, " in result.output
    assert "0 dropped, 0 failed" in result.output


@pytest.mark.usefixtures("rectangle_network")
def test_tracked_video_has_one_id_in_the_results(bundle_path: Path, video: Path, tmp_path: Path) -> None:
    pytest.importorskip("trackers", reason="needs blendmask-edge[track]")
    result = call("predict", bundle_path, video, "-o", tmp_path / "out", "--track")
    assert result.exit_code == 0, result.output
    annotations = json.loads((tmp_path / "out/instances.json").read_text())["annotations"]
    assert [annotation.get("track_id") for annotation in annotations] == [None, 0, 0, 0, 0]


def test_frame_that_fails_is_reported_and_the_others_are_kept(
    bundle_path: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = SharedSession.run, itertools.count()

    def failing(session: SharedSession, *arguments: Any) -> Any:
        if next(calls) == 1:
            raise InferenceError("out of memory")
        return run(session, *arguments)

    monkeypatch.setattr(SharedSession, "run", failing)
    result = call("predict", bundle_path, video, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "drive.avi, frame 1: out of memory" in result.output
    assert "error: 1 frame failed; the results cover the others." in result.output
    images = json.loads((tmp_path / "out/instances.json").read_text())["images"]
    assert [image["frame"] for image in images] == [0, 2, 3, 4]


def test_video_that_does_not_fit_on_the_disk_is_one_message(bundle_path: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    writer = cv2.VideoWriter(str(tmp_path / "noise.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 30, (320, 240))
    for number in range(12):
        writer.write(np.roll(noise, 17 * number, axis=0))
    writer.release()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        result = call("predict", bundle_path, tmp_path / "noise.avi", "-o", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 1
    assert "frames. Check that the disk has room" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


class Screen:
    """OpenCV's windows: what was shown, and the key that is typed after some frames."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, key_after: int) -> None:
        self.shown: List[np.ndarray] = []
        self.closed = False
        self._key_after = key_after
        monkeypatch.setenv("DISPLAY", ":0")
        for name in ("namedWindow", "imshow", "waitKey", "destroyAllWindows"):
            monkeypatch.setattr(cv2, name, getattr(self, name))

    def namedWindow(self, _: str) -> None:
        """Open nothing."""

    def imshow(self, _: str, frame: np.ndarray) -> None:
        self.shown.append(frame)

    def waitKey(self, _: int) -> int:
        return ord("q") if len(self.shown) >= self._key_after else -1

    def destroyAllWindows(self) -> None:
        self.closed = True


@pytest.mark.parametrize("key_after, frames", [(99, 5), (2, 2)])
def test_window_shows_overlays_until_a_key(
    bundle_path: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key_after: int, frames: int
) -> None:
    screen = Screen(monkeypatch, key_after)
    result = call("predict", bundle_path, video, "-o", tmp_path / "out", "--show")
    assert result.exit_code == 0, result.output
    assert len(screen.shown) == frames
    assert screen.closed
    assert len(json.loads((tmp_path / "out/instances.json").read_text())["images"]) == frames


def test_window_without_a_display_is_one_message_before_the_work(
    bundle_path: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    result = call("predict", bundle_path, video, "-o", tmp_path / "out", "--show")
    assert result.exit_code == 1
    assert "There is no display for --show" in result.output
    assert not (tmp_path / "out").exists()


def test_what_is_a_camera_and_what_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").write_bytes(b"a file of this name")
    found = find_sources(["0", "7", "rtsp://robot/front?x=1", "0"])
    assert found == ["0", Path("7"), "rtsp://robot/front?x=1"]
    assert [is_video(source) for source in found] == [True, False, True]
    assert [stem_of(source) for source in found] == ["camera-0", "7", "robot-front-x-1"]


@pytest.mark.usefixtures("rectangle_network")
def test_tiles_and_classes_of_the_command_line(bundle_path: Path, tmp_path: Path) -> None:
    rectangles = [Rectangle((40, 20, 70, 60)), Rectangle((100, 50, 120, 64), 1)]
    cv2.imwrite(str(tmp_path / "large.png"), paint(rectangles, (96, 144))[..., ::-1])
    for words, found in ((["--tiled"], [1, 2]), (["--tiled", "--class", "green"], [2]), (["--class", "red"], [1])):
        result = call("predict", bundle_path, tmp_path / "large.png", "-o", tmp_path / "out", *words)
        assert result.exit_code == 0, result.output
        document = json.loads((tmp_path / "out/instances.json").read_text())
        assert [annotation["category_id"] for annotation in document["annotations"]] == [
            10 * number for number in found
        ]


def test_unknown_class_is_one_message_before_the_work(bundle_path: Path, video: Path, tmp_path: Path) -> None:
    result = call("predict", bundle_path, video, "-o", tmp_path / "out", "--class", "mauve")
    assert result.exit_code == 1
    assert "mauve" in result.output
    assert not (tmp_path / "out").exists()


def test_camera_that_is_not_there_is_one_message(bundle_path: Path, tmp_path: Path) -> None:
    result = call("predict", bundle_path, 97, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "error: Cannot open Camera 97" in result.output
    assert not (tmp_path / "out").exists()


class ChangingCamera(Camera):
    """Each of its frames is larger than the one before."""

    def read(self) -> Any:
        is_read, frame = super().read()
        if is_read:
            number = (250 - int(frame[0, 0, 2])) // 20
            frame = cv2.resize(frame, (48 + 16 * number, 32 + 8 * number))
        return is_read, frame


def test_camera_that_is_lost_keeps_what_was_predicted(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda name, *rest: (ChangingCamera if name == 0 else real)(name, *rest))
    monkeypatch.setattr(capturing, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(capturing, "RECONNECT_SECONDS", 0.05)
    monkeypatch.setattr(Camera, "opened", [])
    monkeypatch.setattr(Camera, "script", iter(range(4)))
    result = call("predict", bundle_path, 0, "-o", tmp_path / "out")
    assert result.exit_code == 1
    output = " ".join(result.output.split())
    assert "error: Camera 0 was lost, and not found again in 0.05 seconds. Check that it is connected" in output
    document = json.loads((tmp_path / "out/instances.json").read_text())
    numbers = [image["frame"] for image in document["images"]]
    assert numbers[-1] == 3
    assert [image["height"] for image in document["images"]] == [32 + 8 * number for number in numbers]
    overlay = real(str(tmp_path / "out/camera-0.overlay.mp4"))
    assert overlay.get(cv2.CAP_PROP_FRAME_COUNT) == len(numbers)


def test_password_of_a_url_is_in_no_result(bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, url = cv2.VideoCapture, "rtsp://admin:s3cret@robot/front"
    monkeypatch.setattr(cv2, "VideoCapture", lambda name, *rest: (Camera if name == url else real)(name, *rest))
    monkeypatch.setattr(capturing, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(capturing, "RECONNECT_SECONDS", 0.05)
    monkeypatch.setattr(Camera, "opened", [])
    monkeypatch.setattr(Camera, "script", iter(range(2)))
    for words in ((), ("--json",)):
        result = call("predict", bundle_path, url, "-o", tmp_path / "out", *words)
        assert "rtsp://robot/front" in result.output
        assert "s3cret" not in result.output
        monkeypatch.setattr(Camera, "script", iter(range(2)))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"instances.json", "robot-front.overlay.mp4"}
    assert "s3cret" not in (tmp_path / "out/instances.json").read_text()
    result = call("predict", bundle_path, url, "-o", tmp_path / "out", "--processes", "2")
    assert "rtsp://robot/front is a video or camera" in " ".join(result.output.split())
    assert "s3cret" not in result.output
