"""Each kind of source gives its frames in the order of channels that is asked for; a lost camera is found again."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any, ClassVar, Iterator, List, Optional

import cv2
import numpy as np
import pytest

from blendmask_edge import ConfigError, ImageError, MaskPredictor, SourceError
from blendmask_edge.streaming import capture as capturing

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def predictor(bundle_path: Path) -> Iterator[MaskPredictor]:
    """Return an open predictor."""
    with MaskPredictor(bundle_path, "onnxruntime", threads=1) as opened:
        yield opened


def red(number: int) -> np.ndarray:
    """Return a BGR frame of red, the darker the later."""
    return np.full((32, 48, 3), (0, 0, 250 - 20 * number), np.uint8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Return a video of five frames at 12 per second."""
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12, (48, 32))
    for number in range(5):
        writer.write(red(number))
    writer.release()
    return path


@pytest.mark.parametrize("channels, place", [("rgb", 0), ("bgr", 2)])
def test_video_is_read_to_its_end(predictor: MaskPredictor, video: Path, channels: str, place: int) -> None:
    stream = predictor.stream(video, channels=channels)
    assert stream.source_rate == 12
    results = list(stream)
    assert [instances.class_names for _, instances in results] == [["red"]] * 5
    assert [round(float(frame[..., place].mean()) / 10) for frame, _ in results] == [25, 23, 21, 19, 17]


def test_threads_bound_the_pool_of_opencv_whenever_it_is_loaded(bundle_path: Path, video: Path) -> None:
    before = cv2.getNumThreads()
    try:
        with MaskPredictor(bundle_path, "onnxruntime", threads=1) as predictor:
            assert cv2.getNumThreads() == 1
            cv2.setNumThreads(2)  # as when it is loaded after the predictor
            assert len(list(predictor.stream(video))) == 5
            assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


def test_video_that_is_faster_than_the_network_may_be_dropped(predictor: MaskPredictor, video: Path) -> None:
    stream = predictor.stream(str(video), drop="oldest")
    results = list(stream)
    assert results[-1].index == 4
    assert len(results) + stream.report.dropped == 5


@pytest.mark.parametrize("channels, place", [("rgb", 0), ("bgr", 2)])
def test_folder_is_read_by_name_and_a_damaged_image_is_skipped(
    predictor: MaskPredictor, tmp_path: Path, channels: str, place: int
) -> None:
    for name, number in (("b.png", 1), ("a.png", 0), ("d.png", 3)):
        cv2.imwrite(str(tmp_path / name), red(number))
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8 cut off")
    (tmp_path / "notes.txt").write_text("no image")
    failures: List[Any] = []
    stream = predictor.stream(tmp_path, channels=channels, on_error=lambda *failure: failures.append(failure))
    assert [int(frame[0, 0, place]) for frame, _ in stream] == [250, 230, 190]
    assert [index for index, _ in failures] == [2]
    assert "c.jpg" in str(failures[0][1])


def test_single_file_is_a_stream_of_one(predictor: MaskPredictor, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), red(0))
    assert len(list(predictor.stream(tmp_path / "a.png"))) == 1


def test_what_holds_no_frame_is_refused_at_once(predictor: MaskPredictor, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "video.mp4").write_bytes(b"not a video")
    os.mkfifo(tmp_path / "pipe.mp4")  # nobody writes into it
    for name, message in (
        ("empty", "holds no image"),
        ("video.mp4", "Cannot open"),
        ("none", "does not exist"),
        ("a\0b", "does not exist"),
        ("pipe.mp4", "is a pipe or socket"),
        ("x" * 300, "Cannot open .*: File name too long"),
    ):
        with pytest.raises(SourceError, match=message):
            predictor.stream(tmp_path / name)


class Camera:
    """What OpenCV is for a camera: `script` says frame by frame whether it gives one; None is unplugging it."""

    opened: ClassVar[List[Camera]] = []
    script: ClassVar[Iterator[Optional[int]]] = iter(())
    opens: ClassVar[bool] = True

    def __init__(self, address: Any, backend: int) -> None:
        self.address, self.backend, self.is_open = address, backend, Camera.opens
        self.properties: dict = {}
        Camera.opened.append(self)

    def isOpened(self) -> bool:
        return self.is_open

    def read(self) -> Any:
        number = next(Camera.script, None) if self.is_open else None
        self.is_open = number is not None
        return (False, None) if number is None else (True, red(number))

    def get(self, _: int) -> float:
        return 30.0

    def set(self, key: int, value: float) -> None:
        self.properties[key] = value

    def release(self) -> None:
        self.is_open = False


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put `Camera` in the place of OpenCV's."""
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(capturing, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(Camera, "opened", [])
    monkeypatch.setattr(Camera, "opens", True)
    return Camera


def test_camera_that_is_lost_is_opened_again(predictor: MaskPredictor, camera: Any) -> None:
    camera.script = itertools.chain([0, 1, None, None, 2, 3], itertools.repeat(4))
    numbers = []
    with predictor.stream(0, drop="never") as stream:
        for frame, _ in itertools.islice(stream, 5):
            numbers.append((250 - int(frame[0, 0, 0])) // 20)
    assert numbers == [0, 1, 2, 3, 4]
    assert len(camera.opened) >= 3
    assert not any(one.is_open for one in camera.opened)


def test_camera_that_stays_away_ends_the_stream_with_an_error(
    predictor: MaskPredictor, camera: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capturing, "RECONNECT_SECONDS", 0.05)
    camera.script = iter([0, 1])
    stream = predictor.stream("rtsp://robot/front", drop="never")
    assert len([next(stream), next(stream)]) == 2
    with pytest.raises(SourceError, match=r"rtsp://robot/front was lost, and not found again in 0\.05 seconds"):
        next(stream)


def test_camera_that_is_away_does_not_hold_up_closing(predictor: MaskPredictor, camera: Any) -> None:
    camera.script = iter([0])
    stream = predictor.stream(0)
    next(stream)
    stream.close()
    assert not any(one.is_open for one in camera.opened)


@pytest.mark.parametrize(
    "source, address", [(2, 2), ("2", 2), (np.int64(1), 1), ("rtsp://a/b", "rtsp://a/b"), ("v4l2src ! appsink", None)]
)
def test_what_opens_a_camera(predictor: MaskPredictor, camera: Any, source: Any, address: Any) -> None:
    camera.script = itertools.repeat(0)
    with predictor.stream(source) as stream:
        next(stream)
    (opened,) = camera.opened
    assert opened.address == (source if address is None else address)
    assert opened.backend == (cv2.CAP_GSTREAMER if address is None else cv2.CAP_ANY)
    assert opened.properties == {cv2.CAP_PROP_BUFFERSIZE: 1}


@pytest.mark.parametrize("source", [-1, 100, 2**31, 10**5000, "100", "9" * 5000, np.int64(-3)], ids=range(7))
def test_number_that_opencv_reads_otherwise_is_no_camera(predictor: MaskPredictor, camera: Any, source: Any) -> None:
    """A negative one ends the process in native code; the hundreds of one choose a backend."""
    with pytest.raises(ConfigError, match="number of a camera below 0 or above 99"):
        predictor.stream(source)
    assert camera.opened == []


def test_digits_of_other_scripts_are_the_name_of_a_file(predictor: MaskPredictor) -> None:
    for name in ("\u00b2", "\u0663"):
        with pytest.raises(SourceError, match="does not exist"):
            predictor.stream(name)


def test_camera_that_does_not_open_is_one_message(predictor: MaskPredictor, camera: Any) -> None:
    camera.opens = False
    with pytest.raises(SourceError, match=r"Cannot open Camera 0\. Check that it is connected"):
        predictor.stream(0)
    camera.opens, camera.script = True, iter(())
    with pytest.raises(ImageError, match="Camera 0 holds no frame"):
        predictor.stream(0)


@pytest.mark.parametrize("has_gstreamer", [True, False])
def test_pipeline_that_does_not_open_names_what_is_missing(
    predictor: MaskPredictor, camera: Any, monkeypatch: pytest.MonkeyPatch, has_gstreamer: bool
) -> None:
    shown = {True: "YES (1.20.3)", False: "NO"}[has_gstreamer]
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: f"Video I/O:\n    GStreamer:                   {shown}\n")
    camera.opens = False
    advice = "Check that it is connected" if has_gstreamer else "This OpenCV has no GStreamer"
    with pytest.raises(SourceError, match=rf"Cannot open v4l2src ! appsink\. {advice}"):
        predictor.stream("v4l2src ! appsink")


def test_password_of_a_url_opens_it_and_is_in_no_message(predictor: MaskPredictor, camera: Any) -> None:
    camera.opens = False
    for source, shown in (
        ("rtsp://admin:s3cr@t@robot:554/front?user=1", "rtsp://robot:554/front?user=1"),
        ("rtspsrc location=rtsp://admin:s3cr@t@robot/front ! appsink", "rtsp://robot/front ! appsink"),
        ("rtsp://robot/a@b", "rtsp://robot/a@b"),
    ):
        with pytest.raises(SourceError) as caught:
            predictor.stream(source)
        assert camera.opened[-1].address == source
        assert shown in str(caught.value)
        assert "s3cr" not in str(caught.value)


def damaged_video(path: Path, *numbers: int) -> Path:
    """Write a video of eight frames of red, some of which hold zeros."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12, (48, 32))
    for number in range(8):
        writer.write(red(number))
    writer.release()
    data = path.read_bytes()
    starts = [match.start() for match in re.finditer(b"\xff\xd8\xff", data)]
    assert len(starts) == 8
    for number in numbers:
        begin = starts[number] + 2
        end = min(place for place in (data.find(name, begin) for name in (b"00dc", b"idx1")) if place >= 0)
        data = data[:begin] + bytes(end - begin) + data[end:]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("damaged", [[3], [0, 1], [2, 3, 6]], ids=str)
def test_frame_of_a_video_that_cannot_be_decoded_fails_alone(
    predictor: MaskPredictor, tmp_path: Path, damaged: List[int]
) -> None:
    failures: List[Any] = []
    video = damaged_video(tmp_path / "drive.avi", *damaged)
    stream = predictor.stream(video, on_error=lambda *failure: failures.append(failure))
    results = [(result.index, round((250 - float(result.frame[..., 0].mean())) / 20)) for result in stream]
    assert results == [(number, number) for number in range(8) if number not in damaged]
    assert [index for index, _ in failures] == damaged
    assert all("The frame of" in str(error) and "cannot be decoded" in str(error) for _, error in failures)
