"""Times of graphs of any signature in the runtimes that latency can be a target for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from blendmask_edge.runtimes.base import SessionOptions
from blendmask_quantize.latency.layer_graph import INPUT

THREADS = 2
"""Threads within an operator, as in `blendmask bench` and in the comparison with float."""
_WARM_UP, _LEAST, _MOST, _SECONDS = 3, 8, 60, 0.06
_QUANTILE = 0.25
"""Below it lie the runs that nothing disturbed, on a machine that also does other work."""


def time_layer(graph: bytes, runtime: str) -> float:
    """Return the time of a run of a graph in milliseconds.

    Args:
        graph: from `layer_graph`.
        runtime: "onnxruntime" or "openvino".
    """
    return time_call(_LOADERS[runtime](graph))


def time_call(run: Callable[[], object], seconds: float = _SECONDS) -> float:
    """Return the time of a call in milliseconds: the lower quartile of several calls.

    Args:
        run: the call.
        seconds: to spend on it, unless a few calls take longer.
    """
    for _ in range(_WARM_UP):
        run()
    times: list[float] = []
    while len(times) < _LEAST or (sum(times) < seconds and len(times) < _MOST):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.quantile(times, _QUANTILE))


def _load_onnxruntime(graph: bytes) -> Callable[[], object]:
    import onnxruntime as ort

    from blendmask_edge.runtimes.onnxruntime import session_settings

    settings = session_settings(SessionOptions(THREADS))
    session = ort.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    binding = session.io_binding()
    dtype = np.uint8 if given.type == "tensor(uint8)" else np.float32
    binding.bind_cpu_input(INPUT, _image(given.shape, dtype))
    binding.bind_output(session.get_outputs()[0].name)
    return lambda: session.run_with_iobinding(binding)


def _load_openvino(graph: bytes) -> Callable[[], object]:
    from blendmask_edge.runtimes.openvino import compile_once
    from blendmask_edge.runtimes.telemetry import import_openvino

    ov = import_openvino()
    compiled = compile_once(graph, SessionOptions(THREADS))
    request = compiled.create_infer_request()
    given = compiled.inputs[0]
    image = _image(list(given.shape), given.element_type.to_dtype())
    request.set_input_tensor(ov.Tensor(image, shared_memory=True))
    request.tensor = image  # keeps the memory
    return lambda: request.infer()


def _image(shape: Any, dtype: Any) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 99, shape).astype(dtype)


_LOADERS = {"onnxruntime": _load_onnxruntime, "openvino": _load_openvino}
