"""Each thread gets the result of its own image, whatever the runtime does with its buffers."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest

from blendmask_edge import ClosedError, InferenceError, MaskPredictor
from blendmask_edge.bundle import Manifest, Outputs, write_bundle
from blendmask_edge.runtimes.contract import Contract
from blendmask_edge.runtimes.registry import RUNTIMES, RuntimeRow
from blendmask_edge.runtimes.shared import LoadedGraph, SharedSession
from tests.sdk.small_bundles import BOXES, CELLS

THREADS, FRAMES = 8, 25
RUNNABLE = [row for row in RUNTIMES if row.installed and row.ready("") and row.name != "torch_tensorrt"]
IMAGE = np.zeros((1, 32, 48, 3), np.uint8)


def scores_of_threads(predictor: MaskPredictor) -> List[List[float]]:
    """Let each of `THREADS` threads predict images of its own shade of red; return the scores that each got."""
    start = threading.Barrier(THREADS)

    def predict(thread: int) -> List[float]:
        image = np.zeros((32, 48, 3), np.uint8)
        image[..., 0] = shade(thread)
        start.wait()
        return [float(predictor(image).scores[0]) for _ in range(FRAMES)]

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(predict, range(THREADS)))


def shade(thread: int) -> int:
    return 255 - 10 * thread


def assert_own_frames(scores: List[List[float]]) -> None:
    for thread, found in enumerate(scores):
        np.testing.assert_allclose(found, np.full(FRAMES, shade(thread) / 255), rtol=1e-5)


@pytest.mark.parametrize("row", RUNNABLE, ids=lambda row: row.name)
def test_each_thread_gets_the_result_of_its_frame(row: RuntimeRow, bundle_path: Path) -> None:
    with MaskPredictor(bundle_path, row.name, threads=1) as predictor:
        assert_own_frames(scores_of_threads(predictor))


def test_threads_agree_on_one_choice(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path, threads=1) as predictor:
        assert_own_frames(scores_of_threads(predictor))


class Buffered:
    """A session with one buffer, into which it computes for a while, as runtimes do. It counts who is inside."""

    signature = None

    def __init__(self) -> None:
        self.scores = np.zeros((1, 4), np.float32)
        self.entered, self.inside, self.most, self.closed = threading.Event(), 0, 0, 0
        self.during: Callable[[], None] = lambda: None

    def run(self, image: Any) -> Outputs:
        assert not self.closed
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        self.scores[:] = [[image.max() / 255, 0, 0, 0]]
        time.sleep(0.001)
        self.during()
        self.inside -= 1
        boxes, ids = np.array([BOXES], np.float32), np.array([[0, -1, -1, -1]], np.int32)
        return Outputs(boxes, self.scores.copy(), ids, np.zeros((1, 4, CELLS, CELLS), np.float32))

    def close(self) -> None:
        assert not self.inside
        self.closed += 1


@pytest.fixture
def buffered() -> Buffered:
    return Buffered()


@pytest.fixture
def shared(buffered: Buffered, make_manifest: Callable[..., Manifest]) -> SharedSession:
    """Return a shared session of `buffered`."""
    contract = Contract.of(make_manifest({"cpu": b"graph"}))
    return SharedSession([LoadedGraph("buffered", "cpu", buffered)], contract, lambda graphs, _: graphs[0])


def test_one_run_waits_for_another(shared: SharedSession, buffered: Buffered) -> None:
    def run(value: int) -> float:
        return float(shared.run(np.full_like(IMAGE, value)).scores[0, 0] * 255)

    with ThreadPoolExecutor(THREADS) as pool:
        np.testing.assert_allclose(list(pool.map(run, range(100))), range(100), rtol=1e-5)
    assert buffered.most == 1


def test_closing_waits_for_the_run_of_another_thread(shared: SharedSession, buffered: Buffered) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(shared.run, IMAGE)
        buffered.entered.wait(10)
        shared.close()
        assert running.result(10).scores.shape == (1, 4)
    assert buffered.closed == 1
    with pytest.raises(ClosedError, match="MaskPredictor"):
        shared.run(IMAGE)


def test_closing_within_a_run_takes_effect_after_it(shared: SharedSession, buffered: Buffered) -> None:
    buffered.during = shared.close
    assert shared.run(IMAGE).scores.shape == (1, 4)
    assert buffered.closed == 1


def test_predicting_in_a_handler_within_a_run_is_refused(shared: SharedSession, buffered: Buffered) -> None:
    buffered.during = lambda: str(shared.run(IMAGE))  # type: ignore[assignment, return-value]
    with pytest.raises(InferenceError, match="signal handler"):
        shared.run(IMAGE)


def test_timings_are_those_of_the_calling_thread(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path, "onnxruntime", threads=1) as predictor:
        predictor(np.zeros((32, 48, 3), np.uint8))
        own = predictor.timings
        with ThreadPoolExecutor(1) as pool:
            pool.submit(predictor, np.zeros((300, 300, 3), np.uint8)).result()
            assert pool.submit(lambda: predictor.timings).result() != own
        assert predictor.timings == own


@pytest.mark.parametrize("row", RUNNABLE, ids=lambda row: row.name)
def test_signals_do_no_harm_after_predictors_were_closed_in_any_order(row: RuntimeRow, bundle_path: Path) -> None:
    code = f"""
import gc, os, signal, threading
import numpy as np
from blendmask_edge import MaskPredictor
made = [MaskPredictor({str(bundle_path)!r}, {row.name!r}, 1) for _ in range(3)]
thread = threading.Thread(target=lambda: made.append(MaskPredictor({str(bundle_path)!r}, {row.name!r}, 1)))
thread.start(); thread.join()
for predictor in made:
    predictor(np.zeros((32, 48, 3), np.uint8))
made[0].close(); made[1].close()
closing = threading.Thread(target=made.clear)
del predictor
closing.start(); closing.join(); gc.collect()
blocks = [bytearray(50_000_000) for _ in range(5)]
del blocks
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
for _ in range(3):
    os.kill(os.getpid(), signal.SIGUSR1)
print(len(seen))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "3"), done.stderr


def test_a_handler_may_close_the_predictor(bundle_path: Path) -> None:
    predictor = MaskPredictor(bundle_path, "onnxruntime", threads=1)
    before = signal.signal(signal.SIGUSR1, lambda *_: predictor.close())
    try:
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(ClosedError):
            predictor(np.zeros((32, 48, 3), np.uint8))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_threads_of_the_stand_in_for_tensorrt_get_their_frames(
    load_engine: Callable[..., Any], tmp_path: Path, tiny_graph: bytes, make_manifest: Callable[..., Manifest]
) -> None:
    graphs = {"tensorrt": tiny_graph}
    path = write_bundle(tmp_path / "a.bmz", make_manifest(graphs), graphs)
    load_engine().close()
    with MaskPredictor(path, "tensorrt") as predictor:
        assert_own_frames(scores_of_threads(predictor))
