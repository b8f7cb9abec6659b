"""Time of each layer of a graph, from ONNX Runtime's own profile.

A convolution is named after its weights, as the checkpoint calls them; everything else by its operator. The profile
itself costs time, so that the sum is more than a frame takes: shares and order are what to read.
"""

from __future__ import annotations

import json
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

from blendmask_edge.bundle.onnx_file import OnnxFile, read_onnx_file
from blendmask_edge.bundle.tensors import INPUT_NAME
from blendmask_edge.runtimes.base import SessionOptions
from blendmask_edge.storage.temporary import scratch_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.bundle.onnx_file import Node

_WEIGHTS = re.compile(r"(?:network\.)?(.+)\.(?:weight|integers)\Z")
_KERNEL, _NODE = "_kernel_time", "node_"
_ADDED = re.compile(r"(_token_\d+|_nchwc|/.*)+\Z")
"""Suffixes that ONNX Runtime appends to the name of a node, or of its output, when it fuses or reorders."""
_WARM_UP_RUNS = 1


@dataclass(frozen=True)
class LayerTime:
    """Time of a layer: median over frames in milliseconds, the same of all nodes that belong to it added up."""

    name: str
    milliseconds: float


def time_layers(
    graph: bytes,
    images: Sequence[NDArray[np.uint8]],
    constant_inputs: Dict[str, NDArray[Any]],
    threads: Optional[int] = None,
) -> List[LayerTime]:
    """Return the layers of a graph by time, the slowest first; empty if ONNX Runtime is not installed.

    Args:
        graph: a graph of a bundle, checked.
        images: (1, H, W, 3) uint8 network inputs; the first one is not counted.
        constant_inputs: further inputs, such as the score threshold.
        threads: within an operator; None leaves the number to the runtime.
    """
    try:
        import onnxruntime as ort
    except ImportError:
        return []
    from blendmask_edge.runtimes.onnxruntime import exact_settings

    options = exact_settings(graph, SessionOptions(threads))
    options.enable_profiling = True
    with scratch_folder() as folder:
        options.profile_file_prefix = str(folder / "profile")
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        wanted = {entry.name for entry in session.get_inputs()}
        feed = {name: value for name, value in constant_inputs.items() if name in wanted}
        for image in images:
            session.run(None, {INPUT_NAME: image, **feed})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _by_layer(events, read_onnx_file(graph))


def _by_layer(events: Sequence[Dict[str, Any]], graph: OnnxFile) -> List[LayerTime]:
    durations: Dict[str, List[float]] = {}
    operators: Dict[str, str] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith(_KERNEL):
            node = event["name"][: -len(_KERNEL)]
            durations.setdefault(node, []).append(event["dur"] / 1000)
            operators[node] = event["args"].get("op_name", "")
    layers = _Layers(graph)
    totals: Dict[str, float] = {}
    for node, times in durations.items():
        name = layers.name_of(node, operators[node])
        totals[name] = totals.get(name, 0.0) + statistics.median(times[_WARM_UP_RUNS:] or times)
    return sorted((LayerTime(*item) for item in totals.items()), key=lambda layer: -layer.milliseconds)


class _Layers:
    """Names of the layers of a graph by what ONNX Runtime calls its nodes."""

    def __init__(self, graph: OnnxFile) -> None:
        self._makers: Dict[str, Node] = {output: node for node in graph.nodes for output in node.outputs}

    def name_of(self, profiled: str, operator: str) -> str:
        """Return the layer of a profiled node: that of its weights, else its operator in brackets.

        A profiled node carries the name of a node or of its output; PyTorch's exporter calls the node of output X
        `node_X`.
        """
        bare = _ADDED.sub("", profiled)
        node = self._makers.get(bare) or self._makers.get(bare[len(_NODE) :] if bare.startswith(_NODE) else "")
        while node is not None:
            weights = self._weights(node)
            if weights:
                return weights
            # a fused activation carries the name of its own output; the layer is before it
            node = self._makers.get(node.inputs[0]) if node.inputs and "Conv" in operator else None
        return f"({operator})"

    def _weights(self, node: Node) -> str:
        if node.operator not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            return ""
        for name in node.inputs[1:2]:
            maker = self._makers.get(name)
            match = _WEIGHTS.match(maker.inputs[0] if maker is not None and maker.inputs else name)
            if match:
                return match[1]
        return ""
