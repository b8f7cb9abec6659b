"""Quantize one float graph by the recipes of other tools, from the same calibration images.

Each tool has its default, and settings that differ from it by what a user would try by hand. `BEST` names the one of
each tool that is compared. It was chosen before anything was measured; `bench.studies.peers --part settings` measures
all of them on training images, to confirm it or to choose another.

| setting | change |
|---|---|
| `default` | what the tool does when given a graph and images |
| `network` | all that follows the network (selection, suppression, masks) stays float |
| `channels` | as `network`, and weights have a scale per channel, where the default has one per tensor |
| `unsigned` | as `channels`, and activations are uint8 |
| `max` | as `network`, and ranges reach to the largest value |
| `predictors` | as the setting before it, and the last convolutions of the network stay float |
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bench.lib.graph_stages import stage_members
from bench.lib.sessions import Arrays
from bench.peers.packages import MissingPeerError, package
from blendmask_edge import BlendMaskError

Quantize = Callable[[onnx.ModelProto, Sequence[Arrays]], onnx.ModelProto]
"""A float graph and its inputs for each calibration image to a graph with Q/DQ."""
DEFAULT = "default"


def behind_network(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that follow the network: selection, suppression, coefficients and masks."""
    network = stage_members(graph)["network"]
    return [node.name for node in graph.node if node.output[0] not in network]


def predictors(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions whose outputs no other convolution of the network reads."""
    makers = {output: node for node in graph.node for output in node.output}
    read: set[str] = set()
    waiting = [node.input[0] for node in graph.node if node.op_type == "Conv"]
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is not None and maker.output[0] not in read:
            read.add(maker.output[0])
            waiting += maker.input
    return [node.name for node in graph.node if node.op_type == "Conv" and node.output[0] not in read]


def _onnxruntime(
    model: onnx.ModelProto, inputs: Sequence[Arrays], *, excluded: bool = True,
    last: bool = False, unsigned: bool = False,
) -> onnx.ModelProto:  # fmt: skip
    tool = package("onnxruntime.quantization")
    options: dict[str, Any] = {}
    if excluded:
        options = {"nodes_to_exclude": _left_out(model, last), "per_channel": True}
    if unsigned:
        options["activation_type"] = tool.QuantType.QUInt8
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        tool.quantize_static(model, path, _Reader(inputs), **options)
        return onnx.load(path)


def _nncf(
    model: onnx.ModelProto, inputs: Sequence[Arrays], *, excluded: bool = True, last: bool = False, fast: bool = True
) -> onnx.ModelProto:
    tool = package("nncf")
    # without validation, since NNCF removes nodes before it looks for those that are left out
    scope = tool.IgnoredScope(names=_left_out(model, last), validate=False) if excluded else None
    return tool.quantize(
        model, tool.Dataset(inputs), subset_size=len(inputs), ignored_scope=scope, fast_bias_correction=fast
    )


def _modelopt(
    model: onnx.ModelProto, inputs: Sequence[Arrays], *, excluded: bool = True, last: bool = False,
    ranges: str | None = None,
) -> onnx.ModelProto:  # fmt: skip
    tool = package("modelopt.onnx.quantization")
    data = {name: np.concatenate([given[name] for given in inputs]) for name in inputs[0]}
    # float32, since CPUs have no float16 convolutions.
    options: dict[str, Any] = {"high_precision_dtype": "fp32"}
    if excluded:
        options |= {"nodes_to_exclude": [f"^{name}$" for name in _left_out(model, last)]}
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, path)
        tool.quantize(
            str(path), calibration_data=data, calibration_method=ranges, calibration_eps=["cpu"],
            output_path=str(output), log_level="WARNING", **options,
        )  # fmt: skip
        return onnx.load(output)


def _left_out(model: onnx.ModelProto, last: bool) -> list[str]:
    return behind_network(model.graph) + (predictors(model.graph) if last else [])


class _Reader:
    """Inputs one after the other, as ONNX Runtime asks for them."""

    def __init__(self, inputs: Sequence[Arrays]) -> None:
        self._inputs: Iterator[Arrays] = iter(inputs)

    def get_next(self) -> Arrays | None:
        """The next inputs, or None."""
        return next(self._inputs, None)


SETTINGS: Mapping[str, Mapping[str, Quantize]] = {
    "onnxruntime": {
        DEFAULT: partial(_onnxruntime, excluded=False),
        "channels": _onnxruntime,
        "unsigned": partial(_onnxruntime, unsigned=True),
        "predictors": partial(_onnxruntime, unsigned=True, last=True),
    },
    "nncf": {
        DEFAULT: partial(_nncf, excluded=False),
        "network": _nncf,
        "predictors": partial(_nncf, last=True),
    },
    "modelopt": {
        DEFAULT: partial(_modelopt, excluded=False),
        "network": _modelopt,
        "max": partial(_modelopt, ranges="max"),
    },
}
"""By tool and setting."""
BEST: Mapping[str, str] = {"onnxruntime": "unsigned", "nncf": "network", "modelopt": "network"}


class RecipeError(BlendMaskError):
    """A tool does not quantize the graph."""


def quantize_apart(tool: str, setting: str, graph: bytes, inputs: Sequence[Arrays]) -> bytes:
    """Quantize in a process of its own, since ModelOpt replaces functions of ONNX Runtime in the one that it runs in.

    Args:
        tool: key of `SETTINGS`.
        setting: key of the tool's.
        graph: the float graph.
        inputs: what it takes for each calibration image.

    Raises:
        MissingPeerError: the tool is not installed.
        RecipeError: the tool failed; the message is its own.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_quantized, tool, setting, graph, inputs).result()


def _quantized(tool: str, setting: str, graph: bytes, inputs: Sequence[Arrays]) -> bytes:
    try:
        return bytes(SETTINGS[tool][setting](onnx.load_from_string(graph), inputs).SerializeToString())
    except MissingPeerError:
        raise
    except Exception as error:  # not every tool has errors that another process can read
        raise RecipeError(f"{tool}: {type(error).__name__}: {error}") from None
