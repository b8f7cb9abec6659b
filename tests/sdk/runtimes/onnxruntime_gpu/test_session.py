"""ONNX Runtime on a GPU, as far as the package for CPUs can show: bound buffers, refusals, the engine cache.

What the package for GPUs does without a driver is in `tests/targets/test_onnxruntime_gpu.py`.
"""

from __future__ import annotations

import errno
import os
import types
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import onnxruntime as ort
import pytest

from blendmask_edge import (
    BlendMaskError,
    ClosedError,
    InferenceError,
    MaskPredictor,
    OutputError,
    RuntimeUnavailableError,
)
from blendmask_edge.hardware.cuda import Gpu
from blendmask_edge.runtimes.base import SessionOptions
from blendmask_edge.runtimes.engines import EngineKey, provider_engine_name, provider_engine_present
from blendmask_edge.runtimes.onnxruntime import load as load_on_cpu
from blendmask_edge.runtimes.onnxruntime import session_settings
from blendmask_edge.runtimes.onnxruntime_gpu import provider, tensorrt
from blendmask_edge.runtimes.onnxruntime_gpu.engine_files import engine_folder
from blendmask_edge.runtimes.onnxruntime_gpu.session import BoundSession
from blendmask_edge.runtimes.registry import RuntimeRow, installed_rows, select
from blendmask_edge.storage.cache import Cache

ORIN = Gpu("Orin", "8.7", "12.6/540.3.0")
WHITE = np.full((1, 32, 48, 3), 255, np.uint8)


def opened(graph: bytes) -> Any:
    settings = session_settings(SessionOptions(threads=1))
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return ort.InferenceSession(graph, settings, providers=[provider.CPU])


def test_bound_buffers_give_what_a_plain_run_gives_and_results_outlive_the_next(threshold_graph: bytes) -> None:
    options = SessionOptions(threads=1, score_threshold=0.5)
    session, plain = BoundSession(opened(threshold_graph), options, "cpu"), load_on_cpu(threshold_graph, options)
    first = session.run(WHITE)
    kept = first.scores.copy()
    second = session.run(WHITE // 4)
    np.testing.assert_array_equal(first.scores, kept)
    for image, outputs in ((WHITE, first), (WHITE // 4, second)):
        for found, expected in zip(outputs, plain.run(image)):
            np.testing.assert_array_equal(found, expected)
    assert first.scores.max() == 1
    assert second.scores.max() == 0


def test_image_of_another_size_and_a_closed_session_are_refused(tiny_graph: bytes) -> None:
    session = BoundSession(opened(tiny_graph), SessionOptions(), "cpu")
    with pytest.raises(InferenceError, match=r"image is uint8 \[1, 8, 8, 3\], the graph takes uint8 \[1, 32, 48, 3\]"):
        session.run(np.zeros((1, 8, 8, 3), np.uint8))
    session.close()
    session.close()
    with pytest.raises(ClosedError):
        session.run(WHITE)


def test_graph_with_a_dynamic_shape_is_refused(tiny_graph: bytes) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(tiny_graph)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"
    with pytest.raises(InferenceError, match=r'image as uint8 \[1, \?, 48, 3\].*variant "float" or "tensorrt"'):
        BoundSession(opened(model.SerializeToString()), SessionOptions(), "cpu")


@pytest.mark.skipif(
    not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"), reason="this ONNX Runtime cannot tell"
)
def test_nodes_on_the_cpu_are_refused_by_name(tiny_graph: bytes) -> None:
    with pytest.raises(InferenceError, match=r"nodes of the graph on the CPU: .*ReduceMean"):
        provider.refuse_nodes_on_cpu(opened(tiny_graph))


def test_onnxruntime_without_the_provider_is_told_what_to_install(tiny_graph: bytes) -> None:
    if provider.CUDA in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has the provider")
    with pytest.raises(RuntimeUnavailableError, match=r"has no CUDAExecutionProvider.*pip uninstall.*onnxruntime-gpu"):
        provider.open_on_gpu(tiny_graph, SessionOptions(), ORIN, [(provider.CUDA, {})])


def test_driver_older_than_cuda_is_refused(tiny_graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [provider.CUDA])
    monkeypatch.setattr(ort, "cuda_version", "13.0", raising=False)
    with pytest.raises(RuntimeUnavailableError, match=r"driver of the Orin supports CUDA 12\.6.*built with CUDA 13\.0"):
        provider.open_on_gpu(tiny_graph, SessionOptions(), ORIN, [(provider.CUDA, {})])


@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_machine_without_a_driver_is_told_so(name: str, tiny_graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RuntimeRow, "installed", True)
    with pytest.raises(RuntimeUnavailableError, match=r"No NVIDIA driver: libcuda\.so\.1"):
        select(name).load().load(tiny_graph, SessionOptions())


@pytest.mark.usefixtures("driver")
def test_build_of_onnxruntime_for_cpus_lacks_the_runtimes(bundle_path: Path) -> None:
    if provider.CUDA in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has the provider")
    assert not {"onnxruntime-cuda", "onnxruntime-tensorrt"} & {row.name for row in installed_rows()}
    with pytest.raises(RuntimeUnavailableError, match=r"'onnxruntime-cuda' is not installed.*\[gpu\]"):
        MaskPredictor(bundle_path, runtime="onnxruntime_cuda")


@pytest.mark.usefixtures("driver")
def test_auto_takes_the_tensorrt_provider_where_its_engine_was_built() -> None:
    digest = "ab" * 32
    assert not provider_engine_present(digest)
    key = EngineKey(digest, "8.7", "10.3.0-onnxruntime1.23.0", "12.6/540.3.0", {})
    Cache.of_machine("engines").write(provider_engine_name(key), b"engine")
    assert provider_engine_present(digest)
    assert not provider_engine_present("cd" * 32)


def test_engine_files_come_back_from_the_cache_and_nothing_else_does() -> None:
    cache = Cache.of_machine("engines")
    with engine_folder(cache, "a") as folder:
        assert list(folder.iterdir()) == []
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "graph_sm87.engine").write_bytes(b"engine")
        (folder / "graph_sm87.timing").write_bytes(b"timing")
    with engine_folder(cache, "a") as folder:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            "graph_sm87.engine": b"engine",
            "graph_sm87.timing": b"timing",
        }
    stored = cache.path("a")
    stored.write_bytes(stored.read_bytes()[:-1] + b"!")
    with engine_folder(cache, "a") as folder:
        assert list(folder.iterdir()) == []


def test_full_disk_of_temporary_files_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache.of_machine("engines")
    with engine_folder(cache, "a") as folder:
        (folder / "graph.engine").write_bytes(b"engine")

    def fails(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(OutputError, match=r"Cannot write .*: No space left.*has room"), engine_folder(cache, "a"):
        pytest.fail("the engine is not there")


def test_nothing_is_stored_of_a_build_that_fails() -> None:
    cache = Cache.of_machine("engines")

    def fail() -> None:
        with engine_folder(cache, "a") as folder:
            (folder / "half.engine").write_bytes(b"half")
            raise InferenceError("out of memory")

    with pytest.raises(InferenceError):
        fail()
    assert cache.read("a") is None


@pytest.mark.usefixtures("driver")
def test_engine_that_is_refused_is_built_anew(tiny_graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_with = []

    def open_on_gpu(graph: bytes, _options: SessionOptions, _gpu: Gpu, providers: Any) -> Any:
        settings = providers[0][1]
        folder = Path(settings["trt_engine_cache_path"])
        opened_with.append((sorted(path.name for path in folder.iterdir()), settings["trt_fp16_enable"]))
        if (folder / "old.engine").exists():
            raise InferenceError("could not deserialize the engine")
        (folder / ("new.engine" if len(opened_with) > 1 else "old.engine")).write_bytes(b"engine")
        return opened(graph)

    monkeypatch.setattr(tensorrt, "open_on_gpu", open_on_gpu)
    monkeypatch.setattr(tensorrt, "BoundSession", lambda session, options: BoundSession(session, options, "cpu"))
    for _ in range(3):
        assert tensorrt.load(tiny_graph, SessionOptions()).run(WHITE).scores.max() == 1
    assert opened_with == [([], "1"), (["old.engine"], "1"), ([], "1"), (["new.engine"], "1")]


class Assigned:
    """A session whose nodes another provider runs, as far as it tells."""

    def __init__(self, session: Any, runs_on: str) -> None:
        self._session, self._runs_on = session, runs_on

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_provider_graph_assignment_info(self) -> List[Any]:
        nodes = [types.SimpleNamespace(op_type="TopK", name=f"top_{number}") for number in range(7)]
        return [types.SimpleNamespace(ep_name=self._runs_on, get_nodes=lambda: nodes)]


@pytest.mark.skipif(
    not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"), reason="this ONNX Runtime cannot tell"
)
@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("runs_on, told", [(provider.CUDA, 1), (provider.TENSORRT, 0)])
def test_nodes_that_tensorrt_leaves_to_cuda_are_named(
    runs_on: str, told: int, tiny_graph: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tensorrt, "open_on_gpu", lambda graph, *_: Assigned(opened(graph), runs_on))
    monkeypatch.setattr(tensorrt, "BoundSession", lambda session, options: BoundSession(session, options, "cpu"))
    tensorrt.load(tiny_graph, SessionOptions())
    assert caplog.text.count("does not take 7 nodes") == told
    assert caplog.text.count("TopK top_0, TopK top_1, TopK top_2, TopK top_3, TopK top_4 and 2 more") == told


@pytest.mark.parametrize(
    "kind, said",
    [
        (RuntimeError, "CUDA failure 2: out of memory ; GPU=0 ; hostname=robot"),
        (Exception, "RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 53084160"),
    ],
)
def test_memory_that_runs_out_is_told_with_the_next_step(
    kind: Any, said: str, tiny_graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise kind(said)

    monkeypatch.setattr(ort, "get_available_providers", lambda: [provider.CUDA])
    monkeypatch.setattr(ort, "InferenceSession", fails)
    monkeypatch.setattr(provider, "_library_error", lambda _: None)
    with pytest.raises(BlendMaskError, match=r"Free GPU memory.*runtime=\"onnxruntime\"") as caught:
        provider.open_on_gpu(tiny_graph, SessionOptions(), ORIN, [(provider.CUDA, {})])
    assert said in str(caught.value)
    assert "pip install" not in str(caught.value)
    assert "build the bundle again" not in str(caught.value)


@pytest.mark.parametrize(
    "said, advice",
    [("CUBLAS failure 14: internal error", "Load the bundle again"), ("out of memory", "Free GPU memory")],
)
def test_failing_run_says_what_to_do(said: str, advice: str, tiny_graph: bytes) -> None:
    class Failing(Assigned):
        def run_with_iobinding(self, _: Any) -> None:
            raise RuntimeError(said)

    session = BoundSession(Failing(opened(tiny_graph), provider.CPU), SessionOptions(), "cpu")
    with pytest.raises(InferenceError, match=rf"failed to run the graph: {said}\. {advice}"):
        session.run(WHITE)


@pytest.mark.usefixtures("driver")
def test_engine_is_not_built_anew_for_want_of_memory(tiny_graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def open_on_gpu(graph: bytes, _options: SessionOptions, _gpu: Gpu, providers: Any) -> Any:
        folder = Path(providers[0][1]["trt_engine_cache_path"])
        tries.append(sorted(path.name for path in folder.iterdir()))
        if len(tries) > 1:
            raise InferenceError("CUDA failure 2: out of memory")
        (folder / "a.engine").write_bytes(b"engine")
        return opened(graph)

    monkeypatch.setattr(tensorrt, "open_on_gpu", open_on_gpu)
    monkeypatch.setattr(tensorrt, "BoundSession", lambda session, options: BoundSession(session, options, "cpu"))
    tensorrt.load(tiny_graph, SessionOptions())
    with pytest.raises(InferenceError, match="out of memory"):
        tensorrt.load(tiny_graph, SessionOptions())
    assert tries == [[], ["a.engine"]]


@pytest.mark.parametrize(
    "operators, sm, flags",
    [
        (["QuantizeLinear", "DequantizeLinear"], "8.7", ("1", "1")),
        (["QuantizeLinear", "DequantizeLinear"], "6.1", ("1", "0")),
        (["Conv"], "7.5", ("0", "1")),
    ],
)
def test_precision_follows_graph_and_gpu(
    operators: List[str],
    sm: str,
    flags: Tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensorrt, "read_onnx", lambda _: types.SimpleNamespace(operators=dict.fromkeys(operators, 1)))
    found = tensorrt.precision_flags(b"", Gpu("a GPU", sm, "12.6/1"))
    assert (found["trt_int8_enable"], found["trt_fp16_enable"]) == flags


def test_both_spellings_of_a_runtime_are_one() -> None:
    assert select("onnxruntime_tensorrt") is select("onnxruntime-tensorrt")
    assert select("torch-tensorrt") is select("torch_tensorrt")
