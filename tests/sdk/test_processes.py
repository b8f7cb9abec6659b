"""A predictor in several processes: sent to another one it opens anew, and a fork of its process refuses to use it."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import signal
from pathlib import Path
from threading import Event, Thread
from typing import Any, Callable, Tuple

import numpy as np
import pytest

from blendmask_edge import BundleError, ClosedError, Instances, MaskPredictor

pytest.importorskip("onnxruntime")
DIM = np.full((32, 48, 3), (250, 120, 60), np.uint8)
FAILED, HUNG = 1, -signal.SIGALRM
PATIENCE = 60


def predict(work: Tuple[MaskPredictor, np.ndarray]) -> Instances:
    """Predict an image in a worker."""
    predictor, image = work
    return predictor(image)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_predictor_opens_the_bundle_anew_with_the_same_options(
    protocol: int, overlapping_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(overlapping_bundle.parent)
    with MaskPredictor(
        overlapping_bundle.name, "onnxruntime", 1, score_threshold=0.1, variant="cpu", agnostic_nms=True
    ) as predictor:
        data = pickle.dumps(predictor, protocol)
        expected = predictor(DIM)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with pickle.loads(data) as opened:
        assert (opened.runtime, opened.variant, opened.score_threshold) == ("onnxruntime", "cpu", 0.1)
        assert opened(DIM).class_names == expected.class_names == ["red"]


def test_a_copy_is_a_predictor_of_its_own(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path, "onnxruntime", 1) as predictor, copy.deepcopy(predictor) as copied:
        predictor.close()
        assert copied(DIM).class_names == ["red", "green", "blue"]


def test_a_pickled_predictor_that_shares_a_graph_keeps_its_own_options(overlapping_bundle: Path) -> None:
    with MaskPredictor(overlapping_bundle, "onnxruntime", 1, score_threshold=0.1) as predictor:
        data = pickle.dumps(predictor.share(score_threshold=0.4, agnostic_nms=True))
    with pickle.loads(data) as opened:
        assert opened.score_threshold == 0.4
        assert opened(DIM).class_names == ["red"]


def test_a_pickled_predictor_whose_bundle_is_gone_says_so(overlapping_bundle: Path) -> None:
    with MaskPredictor(overlapping_bundle, "onnxruntime", 1) as predictor:
        data = pickle.dumps(predictor)
    overlapping_bundle.unlink()
    with pytest.raises(BundleError, match=r"same\.bmz"):
        pickle.loads(data)


def test_a_spawned_worker_takes_a_predictor_and_returns_instances(bundle_path: Path) -> None:
    with MaskPredictor(bundle_path, "onnxruntime", 1) as predictor:
        expected = predictor(DIM)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            (found,) = pool.map(predict, [(predictor, DIM)])
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.masks, expected.masks)
    assert found.class_names == expected.class_names


def in_fork(work: Callable[[], Any]) -> int:
    """Return how a fork of this process ended that did `work`: 0, `FAILED`, or minus the signal that killed it."""
    process = os.fork()
    if process == 0:
        signal.alarm(PATIENCE)
        code = FAILED
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(process, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def require_closed(predictor: MaskPredictor) -> None:
    """Require that a prediction is refused, with what to do."""
    with pytest.raises(ClosedError, match="spawn"):
        predictor(DIM)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_fork_refuses_the_predictor_of_its_parent_and_opens_its_own(bundle_path: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    predictors = [MaskPredictor(bundle_path, runtime, threads=4)]
    expected = predictors[0](DIM).scores

    def use() -> None:
        require_closed(predictors[0])
        predictors[0].close()
        with pytest.raises(ClosedError):
            predictors[0](DIM)

    def drop() -> None:
        predictors.clear()
        gc.collect()

    def reopen() -> None:
        with copy.copy(predictors[0]) as own:
            np.testing.assert_array_equal(own(DIM).scores, expected)

    for work in (use, drop, reopen):
        assert in_fork(work) == 0, work
    np.testing.assert_array_equal(predictors[0](DIM).scores, expected)
    predictors[0].close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_during_a_prediction_of_another_thread_does_not_wait_for_it(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blendmask_edge.runtimes.onnxruntime import OnnxRuntimeSession

    running, done, run = Event(), Event(), OnnxRuntimeSession.run

    def slow(session: OnnxRuntimeSession, image: np.ndarray) -> Any:
        running.set()
        done.wait(PATIENCE)
        return run(session, image)

    monkeypatch.setattr(OnnxRuntimeSession, "run", slow)
    with MaskPredictor(bundle_path, "onnxruntime", 1) as predictor:
        thread = Thread(target=predictor, args=(DIM,))
        thread.start()
        running.wait(PATIENCE)
        ended = in_fork(lambda: require_closed(predictor))
        done.set()
        thread.join()
    assert ended == 0
