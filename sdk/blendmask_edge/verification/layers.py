"""Precisions of the layers of an engine, from what TensorRT's engine inspector tells of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from blendmask_edge.bundle.onnx_file import read_onnx_file
from blendmask_edge.errors import InferenceError

_CONVOLUTIONS = ("Conv", "ConvTranspose", "Gemm")
_PRECISIONS = {"int8": "int8", "half": "half", "fp16": "half", "fp32": "float", "float": "float"}
_REFORMATS = ("Reformat", "reformat")
_NAMED = 5


@dataclass(frozen=True)
class EngineLayers:
    """The layers of an engine.

    Attributes:
        count: number of layers.
        reformats: of them, those that only change the layout or the type of a tensor.
        by_precision: number of layers by the type of their first input: "int8", "half", "float", "other".
        int8, not_int8: names of the quantized convolutions of the graph that read INT8 and that do not.
        unnamed: names of those that no layer of the engine names, as where TensorRT merges a part of the graph.
    """

    count: int
    reformats: int
    by_precision: Dict[str, int]
    int8: Tuple[str, ...]
    not_int8: Tuple[str, ...]
    unnamed: Tuple[str, ...]

    def metrics(self) -> Dict[str, float]:
        """Return the numbers by name."""
        counts = {f"{name}_layers": float(count) for name, count in sorted(self.by_precision.items())}
        convolutions = {"int8": self.int8, "not_int8": self.not_int8, "unnamed": self.unnamed}
        quantized = {f"convolutions_{name}": float(len(names)) for name, names in convolutions.items()}
        return {"layers": float(self.count), "reformats": float(self.reformats), **counts, **quantized}

    def faults(self) -> List[str]:
        """Return which quantized convolutions do not read INT8; nothing where all that can be told do."""
        if not self.not_int8:
            return []
        more = f" and {len(self.not_int8) - _NAMED} more" if len(self.not_int8) > _NAMED else ""
        named = ", ".join(self.not_int8[:_NAMED])
        return [f"{len(self.not_int8)} quantized convolutions do not read INT8: {named}{more}"]


def quantized_convolutions(graph: bytes) -> List[str]:
    """Return the names of the convolutions of an ONNX file that have 8-bit weights.

    Their data is rounded, too, by a DequantizeLinear before them, or before a pooling that rounding commutes with.
    A node without a name goes by its output, as TensorRT's parser names its layer.

    Raises:
        BundleError: the bytes are not an ONNX file.
    """
    file = read_onnx_file(graph)
    rounded = {name for node in file.nodes if node.operator == "DequantizeLinear" for name in node.outputs}
    convolutions = [node for node in file.nodes if node.operator in _CONVOLUTIONS]
    return [node.name or node.outputs[0] for node in convolutions if node.inputs[1] in rounded]


def read_layers(information: str, convolutions: Sequence[str]) -> EngineLayers:
    """Read what the engine inspector tells in JSON.

    Args:
        information: of `IEngineInspector.get_engine_information`, of an engine built with detailed verbosity.
        convolutions: names of the quantized convolutions of the graph.

    Raises:
        InferenceError: it is not JSON, or has names of layers only.
    """
    try:
        layers = json.loads(information)["Layers"]
        if not all(isinstance(layer, dict) for layer in layers):
            raise ValueError("it has only names of layers")
        described = [(_names(layer), _precision(layer)) for layer in layers]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InferenceError(
            f"The engine inspector does not describe the layers: {error}. Remove the engine from the cache and build "
            "it again, with this release."
        ) from error
    precisions = {name: [precision for names, precision in described if name in names] for name in convolutions}
    return EngineLayers(
        count=len(layers),
        reformats=sum(any(word in str(layer.get("LayerType", "")) for word in _REFORMATS) for layer in layers),
        by_precision=dict(Counter(precision for _, precision in described)),
        int8=tuple(name for name in convolutions if "int8" in precisions[name]),
        not_int8=tuple(name for name in convolutions if precisions[name] and "int8" not in precisions[name]),
        unnamed=tuple(name for name in convolutions if not precisions[name]),
    )


def _names(layer: Dict[str, Any]) -> List[str]:
    """Return the names of the nodes that a layer was made of: parts of its name, and its metadata from 8.6 on."""
    metadata = re.findall(r"\[ONNX Layer: ([^\]]*)\]", str(layer.get("Metadata", "")))
    parts = re.split(r" \+ |\|\||\[|\]|, ", str(layer.get("Name", "")))
    return [*(part.strip() for part in parts), *metadata]


def _precision(layer: Dict[str, Any]) -> str:
    """Return the type of the first input, which follows its layout: "... channel major Int8 format"."""
    inputs = layer.get("Inputs") or [{}]
    text = str(inputs[0].get("Format/Datatype", "")).lower()
    return next((name for word, name in _PRECISIONS.items() if re.search(rf"\b{word}", text)), "other")
