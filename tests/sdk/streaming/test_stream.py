"""A stream returns what single calls return, in order, and ends cleanly however it ends."""

from __future__ import annotations

import gc
import itertools
import signal
import threading
import time
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blendmask_edge import BlendMaskError, ClosedError, ConfigError, ImageError, InferenceError, MaskPredictor
from blendmask_edge.runtimes.shared import SharedSession
from tests.processes import wait_for

pytest.importorskip("onnxruntime")
BAD: List[Any] = [None, "frame", np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]


def shade(number: int) -> np.ndarray:
    """Return a frame whose score of red tells its number, up to 200."""
    return np.full((32, 48, 3), (255 - number, 0, 0), np.uint8)


def number_of(instances: Any) -> int:
    """Return the number of the frame of `shade`."""
    return 255 - round(255 * float(instances.scores[0]))


def alive() -> List[str]:
    """Return the names of the threads of streams."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("blendmask ")]


@pytest.fixture(scope="module")
def predictor(bundle_path: Path) -> Iterator[MaskPredictor]:
    """Return an open predictor."""
    with MaskPredictor(bundle_path, "onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """See that each test leaves no thread of a stream behind."""
    yield
    if alive():
        gc.collect()
    assert alive() == []


def test_results_are_those_of_single_calls_in_order(predictor: MaskPredictor) -> None:
    images = [np.full((20 + n, 30, 3), (255 - n, 4 * n, 90), np.uint8) for n in range(30)]
    results = list(predictor.stream(images))
    assert [result.index for result in results] == list(range(30))
    for image, (frame, instances) in zip(images, results):
        np.testing.assert_array_equal(frame, image)
        alone = predictor(image)
        np.testing.assert_array_equal(instances.boxes, alone.boxes)
        np.testing.assert_array_equal(instances.scores, alone.scores)
        assert instances.rles() == alone.rles()


def test_batch_is_equal_to_single_calls(predictor: MaskPredictor) -> None:
    images = [np.full((20 + n, 30, 3), (9 * n, 255 - n, 90), np.uint8) for n in range(12)]
    for options in ({}, {"score_threshold": 0.5, "classes": ["green"], "roi": (2, 3, 20, 18), "channels": "bgr"}):
        batch = predictor.predict_batch((image for image in images), **options)  # type: ignore[arg-type]
        alone = [predictor(image, **options) for image in images]  # type: ignore[arg-type]
        assert [one.rles() for one in batch] == [one.rles() for one in alone]
        assert [one.scores.tolist() for one in batch] == [one.scores.tolist() for one in alone]
    assert predictor.predict_batch([]) == []


def test_wrong_image_of_a_batch_is_named_before_any_is_predicted(predictor: MaskPredictor) -> None:
    with pytest.raises(ImageError, match=r"images\[1\]: .*float32"):
        predictor.predict_batch([shade(0), shade(1).astype(np.float32)])


def test_result_tells_when_and_how_long(predictor: MaskPredictor) -> None:
    before = time.time()
    stream = predictor.stream([shade(0), shade(1)])
    result = next(stream)
    assert before <= result.captured <= time.time()
    assert len(result.seconds) == 3
    assert 0 < sum(result.seconds) <= result.latency
    stream.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    good=st.lists(st.booleans(), max_size=12),
    depth=st.integers(1, 3),
    kinds=st.lists(st.sampled_from(range(len(BAD))), min_size=12, max_size=12),
)
def test_bad_frames_give_errors_and_the_rest_goes_on(
    predictor: MaskPredictor, good: List[bool], depth: int, kinds: List[int]
) -> None:
    frames = [shade(n) if is_good else BAD[kind] for n, (is_good, kind) in enumerate(zip(good, kinds))]
    events: List[Tuple[int, bool]] = []
    stream = predictor.stream(frames, depth=depth, on_error=lambda index, _: events.append((index, False)))
    for result in stream:
        assert number_of(result.instances) == result.index
        events.append((result.index, True))
    assert events == list(enumerate(good))
    assert (stream.report.frames, stream.report.failed) == (sum(good), len(good) - sum(good))


def test_failing_frame_is_logged_where_nobody_takes_the_error(
    predictor: MaskPredictor, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(list(predictor.stream([shade(0), None, shade(2)]))) == 2  # type: ignore[list-item]
    assert "Frame 1 has no result" in caplog.text


def test_failing_inference_concerns_its_frame(predictor: MaskPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    run = SharedSession.run
    calls = itertools.count()

    def failing(session: SharedSession, *arguments: Any) -> Any:
        if next(calls) == 2:
            raise InferenceError("out of memory")
        return run(session, *arguments)

    monkeypatch.setattr(SharedSession, "run", failing)
    failures: List[Tuple[int, str]] = []
    stream = predictor.stream(map(shade, range(5)), on_error=lambda n, error: failures.append((n, str(error))))
    assert [result.index for result in stream] == [0, 1, 3, 4]
    assert failures == [(2, "out of memory")]


def test_frame_without_the_region_fails_and_the_stream_goes_on(predictor: MaskPredictor) -> None:
    """The camera changes its size for a moment."""
    frames = [shade(0), np.full((16, 24, 3), 255, np.uint8), shade(2)]
    failures: List[Tuple[int, str]] = []
    stream = predictor.stream(frames, roi=(30, 4, 46, 28), on_error=lambda n, error: failures.append((n, str(error))))
    assert [result.index for result in stream] == [0, 2]
    ((index, message),) = failures
    assert index == 1
    assert "roi is (30.0, 4.0, 46.0, 28.0), which lies outside the image of 24 x 16 pixels" in message
    with pytest.raises(ConfigError, match="roi"):
        predictor.predict_batch(frames, roi=(30, 4, 46, 28))


def test_error_of_the_source_comes_after_the_results_before_it(predictor: MaskPredictor) -> None:
    def source() -> Iterator[np.ndarray]:
        yield from map(shade, range(3))
        raise RuntimeError("the driver crashed")

    stream = predictor.stream(source())
    assert [next(stream).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="the driver crashed"):
        next(stream)


def test_error_of_the_consumer_of_errors_ends_the_stream(predictor: MaskPredictor) -> None:
    def refuse(_: int, error: BlendMaskError) -> None:
        raise error

    with pytest.raises(ImageError):
        list(predictor.stream([shade(0), None, shade(1)], on_error=refuse))  # type: ignore[list-item]


def test_closed_predictor_ends_the_stream(bundle_path: Path) -> None:
    predictor = MaskPredictor(bundle_path, "onnxruntime", threads=1)
    stream = predictor.stream(map(shade, itertools.cycle(range(50))))
    next(stream)
    predictor.close()
    with pytest.raises(ClosedError):
        for _ in stream:
            pass


def test_source_waits_for_a_slow_loop_and_nothing_is_dropped(predictor: MaskPredictor) -> None:
    captured = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal captured
        for number in range(40):
            captured += 1
            yield shade(number)

    stream = predictor.stream(source(), drop="never", depth=2)
    for received, result in enumerate(stream, start=1):
        time.sleep(0.001)
        assert result.index == received - 1
        assert captured - received <= 4 * 2 + 5
    assert stream.report.dropped == 0


def test_newest_frame_is_returned_where_the_loop_is_slow(predictor: MaskPredictor) -> None:
    released = threading.Semaphore(0)
    captured = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal captured
        while True:
            released.acquire()
            captured += 1
            yield shade(captured % 200)

    stream = predictor.stream(source(), drop="oldest")
    released.release(1)
    assert next(stream).index == 0
    for _ in range(60):
        released.release()
        time.sleep(0.002)
    wait_for(lambda: stream.report.dropped == 59)
    result = next(stream)
    assert number_of(result.instances) == result.index + 1
    assert result.index == 60
    released.release(10)
    stream.close()
    released.release(10)


def test_network_takes_the_newest_frame_where_it_is_slow(
    predictor: MaskPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, is_running, may_end = SharedSession.run, threading.Event(), threading.Semaphore(0)

    def slow(session: SharedSession, *arguments: Any) -> Any:
        is_running.set()
        may_end.acquire()
        return run(session, *arguments)

    def source() -> Iterator[np.ndarray]:
        yield shade(0)
        is_running.wait()
        yield from map(shade, range(1, 30))
        wait_for(lambda: stream.report.dropped == 28)
        may_end.release()

    monkeypatch.setattr(SharedSession, "run", slow)
    stream = predictor.stream(source(), drop="oldest")
    assert next(stream).index == 0
    may_end.release()
    assert next(stream).index == 29


@pytest.mark.parametrize("how", ["break", "close", "with", "never"])
def test_stream_that_is_left_ends_its_threads_and_leaves_the_source(predictor: MaskPredictor, how: str) -> None:
    captured = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal captured
        for captured in itertools.count():
            yield shade(captured % 200)

    if how == "break":
        for _ in predictor.stream(source()):
            break
    elif how == "never":
        predictor.stream(source())
    else:
        stream = predictor.stream(source())
        next(stream)
        if how == "close":
            stream.close()
            stream.close()
        else:
            with stream:
                next(stream)
        assert list(stream) == []
    gc.collect()
    assert alive() == []
    last = captured
    time.sleep(0.02)
    assert captured == last < 20


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Handle SIGINT as Python does, also where the tests were started in the background and it is ignored."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_stream(predictor: MaskPredictor) -> None:
    is_waiting, go_on = threading.Event(), threading.Event()

    def source() -> Iterator[np.ndarray]:
        yield shade(0)
        is_waiting.wait(10)
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        go_on.wait(10)

    stream = predictor.stream(source())
    next(stream)
    threading.Timer(0.3, go_on.set).start()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  the signal must come inside
        is_waiting.set()
        next(stream)
    assert list(stream) == []


def test_camera_that_writes_into_the_same_memory_gives_different_frames(predictor: MaskPredictor) -> None:
    memory = np.empty((32, 48, 3), np.uint8)

    def source() -> Iterator[np.ndarray]:
        for number in range(20):
            memory[:] = shade(number)
            yield memory

    results = list(predictor.stream(source()))
    assert [number_of(result.instances) for result in results] == list(range(20))
    assert [255 - int(result.frame[0, 0, 0]) for result in results] == list(range(20))


def test_options_of_a_call_hold_for_a_stream(predictor: MaskPredictor) -> None:
    frame = np.full((32, 48, 3), (250, 180, 60), np.uint8)
    ((_, instances),) = predictor.stream([frame], score_threshold=0.5, classes=["green", "blue"], roi=(8, 8, 40, 24))
    alone = predictor(frame, score_threshold=0.5, classes=["green", "blue"], roi=(8, 8, 40, 24))
    assert instances.class_names == ["green"]
    assert instances.rles() == alone.rles()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"source": shade(0)}, "single image"),
        ({"source": None}, "NoneType"),
        ({"source": b"video.mp4"}, "bytes"),
        ({"source": 1.5}, "float"),
        ({"source": [], "drop": "newest"}, "drop is 'newest'"),
        ({"source": [], "channels": "gray"}, "channels is 'gray'"),
        ({"source": [], "depth": 0}, "depth is 0"),
        ({"source": [], "classes": ["mauve"]}, "mauve"),
        ({"source": "no-such.mp4"}, "does not exist"),
        ({"source": "a\0b.mp4"}, "does not exist"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_at_once(predictor: MaskPredictor, arguments: Any, message: str) -> None:
    with pytest.raises((ConfigError, ImageError), match=message):
        predictor.stream(**arguments)


def test_report_is_one_line(predictor: MaskPredictor) -> None:
    stream = predictor.stream([shade(0), None, shade(2)], on_error=lambda *_: None)  # type: ignore[list-item]
    assert stream.report == (0, 0, 0, 0, 0, 0)
    list(stream)
    assert stream.report.rate > 0
    assert stream.report.latency > 0
    assert str(stream.report).startswith("2 frames, ")
    assert str(stream.report).endswith("0 dropped, 1 failed")
