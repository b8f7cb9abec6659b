"""Run any ONNX graph in ONNX Runtime or OpenVINO as the SDK configures them, with the time of each layer."""

from __future__ import annotations

import io
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
RunGraph = Callable[[Arrays], dict[str, NDArray[Any]]]
"""Inputs by name to outputs by name."""
Layers = dict[tuple[str, str], float]
"""Milliseconds by name and kind of a layer."""

RUNTIMES = ("onnxruntime", "openvino")
CONVOLUTIONS = ("QLinearConv", "Conv", "FusedConv", "Convolution", "GroupConvolution")
"""What convolutions are called in profiles."""
_WARM_UP = 3


def open_graph(runtime: str, graph: bytes, threads: int) -> RunGraph:
    """A graph loaded in "onnxruntime" or "openvino"."""
    if runtime == "openvino":
        request, names = _request(graph, threads, profile=False)
        return lambda given: dict(zip(names, request.infer(_plain(given), share_inputs=True).values(), strict=True))
    session = ort.InferenceSession(graph, _options(threads), providers=["CPUExecutionProvider"])
    outputs = [node.name for node in session.get_outputs()]
    return lambda given: dict(zip(outputs, session.run(outputs, dict(given)), strict=True))


def layer_times(runtime: str, graph: bytes, given: Arrays, threads: int, runs: int) -> Layers:
    """Median milliseconds of each layer, as the runtime has fused them."""
    find = _openvino_times if runtime == "openvino" else _onnxruntime_times
    times = find(graph, given, threads, runs + _WARM_UP)
    return {layer: float(np.median(readings[-runs:])) for layer, readings in times.items()}


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    return options


def _onnxruntime_times(graph: bytes, given: Arrays, threads: int, runs: int) -> dict[tuple[str, str], list[float]]:
    options = _options(threads)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, dict(given))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    for event in events:
        name, is_kernel, _ = event["name"].partition("_kernel_time")
        if is_kernel:
            times[name, event["args"]["op_name"]].append(event["dur"] / 1000)
    return times


def _openvino_times(graph: bytes, given: Arrays, threads: int, runs: int) -> dict[tuple[str, str], list[float]]:
    request, _ = _request(graph, threads, profile=True)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(runs):
        request.infer(_plain(given), share_inputs=True)
        for layer in request.profiling_info:
            if layer.status == layer.Status.EXECUTED:
                times[layer.node_name, layer.node_type].append(1000 * layer.real_time.total_seconds())
    return times


def _request(graph: bytes, threads: int, *, profile: bool) -> tuple[Any, list[str]]:
    """A request, and the names of its outputs."""
    import openvino

    core = openvino.Core()
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(core.read_model(io.BytesIO(graph)), "CPU", {**properties, "PERF_COUNT": profile})
    return compiled.create_infer_request(), [port.get_any_name() for port in compiled.outputs]


def _plain(given: Arrays) -> dict[str, NDArray[Any]]:
    """OpenVINO does not know the integers of ONNX Runtime, which have the same size under another name."""
    return {name: value.astype(np.int64) if value.dtype.kind == "i" and value.itemsize == 8 else value
            for name, value in given.items()}  # fmt: skip
