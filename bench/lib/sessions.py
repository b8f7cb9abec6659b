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

from blendmask_edge.runtimes.onnxruntime import exact_settings
from blendmask_edge.runtimes.registry import SessionOptions

Arrays = Mapping[str, NDArray[Any]]
RunGraph = Callable[[Arrays], dict[str, NDArray[Any]]]
"""Inputs by name to outputs by name."""
Layers = dict[tuple[str, str], float]
"""Milliseconds by name and kind of a layer."""

RUNTIMES = ("onnxruntime", "openvino")
EXACT = "exact"
"""ONNX Runtime with Q/DQ in float: what a graph says, whatever the integer arithmetic of the processor does."""
CONVOLUTIONS = ("QLinearConv", "Conv", "FusedConv", "Convolution", "GroupConvolution")
"""Names of convolutions in profiles."""
_WARM_UP = 3


def open_graph(runtime: str, graph: bytes, threads: int) -> RunGraph:
    """A graph loaded in a runtime.

    Args:
        runtime: "onnxruntime", "openvino", "openvino-bf16", or `EXACT`, which is ONNX Runtime without optimization of
            graphs, so that Q/DQ round and everything between them is computed in float.
        graph: ONNX.
        threads: of the runtime.
    """
    if runtime.startswith("openvino"):
        request, names = _request(graph, threads, profile=False, precision="bf16" if "bf16" in runtime else "f32")
        return lambda given: dict(zip(names, request.infer(_plain(given), share_inputs=True).values(), strict=True))
    settings = exact_settings(graph, SessionOptions(threads))
    if runtime == EXACT:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    outputs = [node.name for node in session.get_outputs()]
    return lambda given: dict(zip(outputs, session.run(outputs, dict(given)), strict=True))


def open_default(runtime: str, graph: bytes, threads: int) -> Any:
    """A graph in "onnxruntime" or "openvino" with the runtime's own defaults; it has ONNX Runtime's `run`."""
    if runtime == "openvino":
        return _OpenVinoByDefault(graph, threads)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = threads, 4
    return ort.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])


class _OpenVinoByDefault:
    def __init__(self, graph: bytes, threads: int) -> None:
        compiled = _compiled(graph, {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"})
        self._request = compiled.create_infer_request()

    def run(self, names: list[str], given: Arrays) -> list[NDArray[Any]]:
        results = self._request.infer(_plain(given), share_inputs=True)
        return [np.array(results[name]) for name in names]


def layer_times(
    runtime: str, graph: bytes, given: Arrays, threads: int, runs: int, of: Callable[[Any], Any] = np.median
) -> Layers:
    """Milliseconds of each layer, as the runtime has fused them: the median of the runs, or another value `of` them."""
    find = _openvino_times if runtime == "openvino" else _onnxruntime_times
    times = find(graph, given, threads, runs + _WARM_UP)
    return {layer: float(of(readings[-runs:])) for layer, readings in times.items()}


def _onnxruntime_times(graph: bytes, given: Arrays, threads: int, runs: int) -> dict[tuple[str, str], list[float]]:
    options = exact_settings(graph, SessionOptions(threads))
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


def _request(graph: bytes, threads: int, *, profile: bool, precision: str = "f32") -> tuple[Any, list[str]]:
    """A request, and the names of its outputs."""
    from blendmask_edge.runtimes.openvino import compile_properties

    properties = {**compile_properties(SessionOptions(threads)), "INFERENCE_PRECISION_HINT": precision}
    compiled = _compiled(graph, {**properties, "PERF_COUNT": profile})
    return compiled.create_infer_request(), [port.get_any_name() for port in compiled.outputs]


def _compiled(graph: bytes, properties: Mapping[str, Any]) -> Any:
    """The `openvino.CompiledModel` of a graph on the CPU."""
    from blendmask_edge.runtimes.telemetry import import_openvino

    core = import_openvino().Core()
    return core.compile_model(core.read_model(io.BytesIO(graph)), "CPU", dict(properties))


def _plain(given: Arrays) -> dict[str, NDArray[Any]]:
    """OpenVINO does not know the integers of ONNX Runtime, which have the same size under another name."""
    return {name: value.astype(np.int64) if value.dtype.kind == "i" and value.itemsize == 8 else value
            for name, value in given.items()}  # fmt: skip
