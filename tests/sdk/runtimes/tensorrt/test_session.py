"""An engine runs through named tensors, is held to the contract, and gives all memory back.

TensorRT and the driver are stand-ins; `test_protocol.py` runs the real ones where there is a GPU.
"""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, List

import numpy as np
import pytest

from blendmask_edge import ClosedError, InferenceError, RuntimeUnavailableError
from blendmask_edge.hardware.cuda import Gpu
from blendmask_edge.runtimes.registry import SessionOptions, select
from blendmask_edge.runtimes.tensorrt.log import tensorrt_log
from tests.sdk.runtimes.fake_cuda import NO_DEVICE, OUT_OF_MEMORY, FakeDriver
from tests.sdk.runtimes.fake_tensorrt import ENGINE, TENSORS, THRESHOLD, Context, Engine

RED = np.zeros((1, 32, 48, 3), np.uint8)
RED[..., 0] = 255
ORDER = ["context", "engine", "runtime"]
"""In which TensorRT releases its parts, all before the GPU."""


def released(runtime: Any) -> List[str]:
    """Return what was released so far, in order."""
    gc.collect()
    return list(runtime.trt.releases)


@pytest.mark.parametrize("version", ["8.5.2.2", "8.6.1", "10.3.0", "11.4.1"])
def test_engine_returns_the_outputs_of_the_contract(version: str, load_engine: Callable[..., Any]) -> None:
    session = load_engine(version=version)
    outputs = session.run(RED)
    np.testing.assert_allclose(outputs.scores, [[1, 0, 0, 0]])
    assert (outputs.boxes.shape, outputs.boxes.dtype) == ((1, 4, 4), np.float32)
    assert (outputs.class_ids.tolist(), outputs.class_ids.dtype) == ([[0, 1, 2, -1]], np.int32)
    assert (outputs.mask_logits.shape, outputs.mask_logits.dtype) == ((1, 4, 56, 56), np.float32)


def test_frame_is_recorded_once_and_takes_one_launch(load_engine: Callable[..., Any], driver: FakeDriver) -> None:
    session = load_engine()
    assert driver.launches == 0
    for _ in range(3):
        np.testing.assert_allclose(session.run(RED).scores, [[1, 0, 0, 0]])
        np.testing.assert_allclose(session.run(RED[..., ::-1]).scores, [[0, 0, 1, 0]])
    assert driver.launches == 6
    session.close()
    assert driver.is_clean()


@pytest.mark.parametrize("call", ["cuStreamEndCapture", "cuMemcpyDtoHAsync_v2"])
def test_engine_that_cannot_be_recorded_runs_without(
    call: str, load_engine: Callable[..., Any], driver: FakeDriver
) -> None:
    driver.failures = {call: [901] if call == "cuStreamEndCapture" else [0, 0, 0, 0, 901]}
    session = load_engine()
    np.testing.assert_allclose(session.run(RED).scores, [[1, 0, 0, 0]])
    assert driver.launches == 0
    session.close()
    assert driver.is_clean()


def test_driver_before_cuda_11_4_records_nothing(load_engine: Callable[..., Any], driver: FakeDriver) -> None:
    del driver._functions["cuGraphInstantiateWithFlags"]
    session = load_engine()
    np.testing.assert_allclose(session.run(RED).scores, [[1, 0, 0, 0]])
    assert driver.launches == 0


def test_the_threshold_is_uploaded_once_and_stays(load_engine: Callable[..., Any], driver: FakeDriver) -> None:
    session = load_engine(options=SessionOptions(score_threshold=0.5), tensors={**TENSORS, **THRESHOLD})
    orange = RED.copy()
    orange[..., 1] = 102
    for _ in range(2):
        np.testing.assert_allclose(session.run(orange).scores, [[1, 0, 0, 0]])
    session.close()
    assert driver.is_clean()


def test_outputs_outlive_the_next_run_and_the_session(load_engine: Callable[..., Any]) -> None:
    session = load_engine()
    red = session.run(RED)
    blue = session.run(RED[..., ::-1])
    session.close()
    np.testing.assert_allclose(red.scores, [[1, 0, 0, 0]])
    np.testing.assert_allclose(blue.scores, [[0, 0, 1, 0]])


def test_another_thread_can_run(load_engine: Callable[..., Any]) -> None:
    session, scores = load_engine(), []
    thread = threading.Thread(target=lambda: scores.append(session.run(RED).scores[0, 0]))
    thread.start()
    thread.join()
    assert scores == [1]


def test_closing_gives_everything_back(
    load_engine: Callable[..., Any], tensorrt_runtime: Any, driver: FakeDriver
) -> None:
    session = load_engine()
    assert len(driver.device) == 5
    session.close()
    session.close()
    assert driver.is_clean()
    assert released(tensorrt_runtime) == ORDER
    with pytest.raises(ClosedError):
        session.run(RED)


@pytest.mark.parametrize("image", [RED[:, :16], RED.astype(np.float32)])
def test_image_of_another_size_or_kind_is_refused(load_engine: Callable[..., Any], image: Any) -> None:
    with pytest.raises(InferenceError, match=r"the engine takes uint8 \[1, 32, 48, 3\]"):
        load_engine().run(image)


def change(name: str, kind: str, shape: List[int]) -> Any:
    """Return the tensors of the contract with one replaced."""
    return {**TENSORS, name: (kind, tuple(shape))}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes, message, made",
    [
        ({"engine": b"of another version"}, r"a\.engine: Serialization .* == kVERSION failed\. Remove it", "runtime"),
        ({"has_room": False}, "Free GPU memory", "engine"),
        ({"takes_addresses": False}, "takes no buffer for image", "context"),
        ({"tensors": change("scores", "HALF", [1, 4])}, "scores as float16", "engine"),
        (
            {"tensors": change("image", "UINT8", [1, -1, -1, 3])},
            r"image as uint8 \[1, \?, \?, 3\].*fixed shape",
            "engine",
        ),
        ({"tensors": change("image2", "UINT8", [1])}, "inputs .*image2", "engine"),
        ({"tensors": {"image": ("UINT8", (1, 2, 2, 3))}}, "outputs .*mask_logits", "engine"),
    ],
)
def test_engine_that_does_not_fit_is_refused_and_leaves_nothing_behind(
    changes: Any, message: str, made: str, load_engine: Callable[..., Any], tensorrt_runtime: Any, driver: FakeDriver
) -> None:
    with pytest.raises(InferenceError, match=message):
        load_engine(**changes)
    assert driver.is_clean()
    assert released(tensorrt_runtime) == ORDER[ORDER.index(made) :]


@pytest.mark.parametrize("version, failure", [("8.5.3.1", "raises"), ("11.4.0", "logs")])
def test_cuda_that_does_not_start_is_told_with_what_was_logged(
    version: str, failure: str, load_engine: Callable[..., Any], driver: FakeDriver
) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"start its Runtime: CUDA init.* error: 35\. Run `nvidia-smi`"):
        load_engine(version=version, start_failure=failure)
    assert driver.is_clean()


def test_what_did_not_start_is_never_released(load_engine: Callable[..., Any], tensorrt_runtime: Any) -> None:
    with pytest.raises(RuntimeUnavailableError):
        load_engine(version="11.4.0", start_failure="logs")
    gc.collect()
    assert tensorrt_runtime.trt.released == 0
    load_engine(start_failure=None).close()
    gc.collect()
    assert tensorrt_runtime.trt.released == 1


def test_one_logger_serves_builders_and_sessions(load_engine: Callable[..., Any], tensorrt_runtime: Any) -> None:
    load_engine()
    first = tensorrt_runtime.trt.logger
    load_engine()
    assert tensorrt_runtime.trt.logger is first is tensorrt_log(tensorrt_runtime.trt)


def test_engine_with_another_digest_is_not_loaded(tensorrt_runtime: Any, tiny_graph: bytes, own_cache: Path) -> None:
    (own_cache / "engines" / "a.engine").write_bytes(ENGINE)
    with pytest.raises(InferenceError, match=r"a\.engine is gone.*Run again"):
        tensorrt_runtime.load(tiny_graph, SessionOptions())


@pytest.mark.slow
@pytest.mark.parametrize("call", ["cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuGraphInstantiateWithFlags"])
def test_memory_that_runs_out_leaves_nothing_behind(
    call: str, load_engine: Callable[..., Any], tensorrt_runtime: Any, driver: FakeDriver
) -> None:
    driver.failures[call] = [*([0, 0] if call == "cuMemAlloc_v2" else []), OUT_OF_MEMORY]
    with pytest.raises(InferenceError, match="out of memory"):
        load_engine()
    assert driver.is_clean()
    assert released(tensorrt_runtime) == ORDER


def test_failing_run_says_what_tensorrt_said(load_engine: Callable[..., Any]) -> None:
    with pytest.raises(InferenceError, match="Cask convolution execution"):
        load_engine(is_broken=True).run(RED)


def test_tensorrt_without_named_tensors_is_refused(load_engine: Callable[..., Any], driver: FakeDriver) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"8\.4\.1.*8\.5 or newer.*JetPack 5\.1"):
        load_engine(version="8.4.1.5")
    assert driver.is_clean()


def test_missing_gpu_is_told_before_an_engine_is_built(
    tensorrt_runtime: Any, tiny_graph: bytes, driver: FakeDriver
) -> None:
    driver.failures["cuInit"] = [NO_DEVICE]
    with pytest.raises(RuntimeUnavailableError, match='runtime="onnxruntime"'):
        tensorrt_runtime.load(tiny_graph, SessionOptions())
    assert not tensorrt_runtime.built


def test_engine_that_vanished_is_told_with_its_path(
    load_engine: Callable[..., Any], tensorrt_runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = SimpleNamespace(path=Path("/no/such.engine"))
    monkeypatch.setattr(tensorrt_runtime, "compile_graph", lambda *_, **__: gone)
    with pytest.raises(InferenceError, match=r"/no/such\.engine is gone.*Run again"):
        load_engine()


def quantized() -> bytes:
    """Return a graph with one Q/DQ pair."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(name, kind, [1])] for name in "xy"]
    scale = onnx.numpy_helper.from_array(np.float32(0.5), "scale")
    model = helper.make_model(helper.make_graph(nodes, "g", *ends, [scale]))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("sm, precision", [("8.7", "fp16"), ("6.1", "fp32"), ("5.3", "fp16")])
def test_float_graph_is_built_in_the_precision_that_is_fast(
    sm: str, precision: str, tensorrt_runtime: Any, tiny_graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_runtime, "first_gpu", lambda: Gpu("some", sm, "12.6/540"))
    tensorrt_runtime.engine_for(tiny_graph)
    assert tensorrt_runtime.built == [(tiny_graph, tensorrt_runtime.trt, sm, precision)]


def test_quantized_graph_is_built_as_int8(tensorrt_runtime: Any) -> None:
    tensorrt_runtime.engine_for(quantized())
    assert tensorrt_runtime.built[0][3] == "int8"


@pytest.mark.usefixtures("no_driver")
def test_tensorrt_is_not_ready_without_a_driver() -> None:
    assert not select("tensorrt").ready("0" * 64)


@pytest.mark.usefixtures("driver")
def test_tensorrt_is_ready_with_a_driver() -> None:
    assert select("tensorrt").ready("0" * 64)


def test_the_calls_are_in_real_bindings() -> None:
    """TensorRT-RTX has the same Python interface and installs without a driver."""
    trt = pytest.importorskip("tensorrt_rtx")
    stand_in = {Engine: trt.ICudaEngine, Context: trt.IExecutionContext}
    for fake, real in stand_in.items():
        assert [name for name in vars(fake) if name[0] != "_" and not hasattr(real, name)] == []
    assert {kind for kind, _ in TENSORS.values()} <= set(trt.DataType.__members__)
    assert {"INPUT", "OUTPUT"} <= set(trt.TensorIOMode.__members__)
    assert {"INTERNAL_ERROR", "ERROR"} <= set(trt.ILogger.Severity.__members__)


def test_real_bindings_tell_why_they_refuse_an_engine(fresh_import: Callable[..., Any]) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    runtime = fresh_import("blendmask_edge.runtimes.tensorrt.session", tensorrt=trt)
    with pytest.raises(InferenceError, match=r"a\.engine: .*Error Code"):
        runtime.TensorRtSession(Path("a.engine"), b"no engine", None, SessionOptions())
