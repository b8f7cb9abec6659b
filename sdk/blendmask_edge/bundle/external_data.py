"""Does an ONNX file hold all of its tensors, and only plain operators?

One that names another file could make a runtime read any file of the machine: OpenVINO 2026.4 reads what is named
relative to the working folder, even of a graph that it is given as bytes.
"""

from __future__ import annotations

from typing import Dict

from blendmask_edge.bundle.protobuf import fields
from blendmask_edge.errors import BundleError

_DOMAIN = 7
_OWN_DOMAINS = (b"", b"ai.onnx")
_REFUSED = {
    ("ModelProto", 20): "training information",
    ("ModelProto", 25): "functions",
    ("AttributeProto", 6): "a graph inside an operator (If, Loop, Scan)",
    ("AttributeProto", 11): "a graph inside an operator (If, Loop, Scan)",
    ("NodeProto", _DOMAIN): "an operator of another domain than ONNX's own",
}
"""Fields by which a graph could run without end, or what a runtime adds to ONNX."""
MAX_FIELDS = 2**18
"""Fields of all messages together that are looked at; graphs of the released models hold some ten thousand."""
_TENSOR = "TensorProto"
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
PARTS: Dict[str, Dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: _TENSOR, 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: _TENSOR, 6: "GraphProto", 10: _TENSOR, 11: "GraphProto", 22: "SparseTensorProto", 23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: _TENSOR, 2: _TENSOR},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
}  # fmt: skip
"""Fields of an ONNX message that lead to tensors: number and kind (onnx.proto3)."""


def refuse_external_data(graph: bytes) -> None:
    """See that no tensor of an ONNX file lies outside it, and that it has no subgraphs, functions or other domains.

    Raises:
        BundleError: it has, or the bytes are no ONNX file.
    """
    unread, count = [("ModelProto", memoryview(graph))], 0
    try:
        while unread:
            kind, message = unread.pop()
            parts = PARTS.get(kind, {})
            for number, value in fields(message):
                count += 1
                if count > MAX_FIELDS:
                    raise BundleError(f"it holds more than {MAX_FIELDS} fields, more than any exported graph")
                if kind == _TENSOR and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
                    raise BundleError("a tensor lies in another file (external data), which a bundle may not have")
                refused = _REFUSED.get((kind, number))
                if refused is not None and not (number == _DOMAIN and bytes(value) in _OWN_DOMAINS):
                    raise BundleError(f"it holds {refused}, which no exported graph does")
                if number in parts:
                    unread.append((parts[number], memoryview(value)))  # type: ignore[arg-type]
    except (ValueError, IndexError, TypeError) as error:
        raise BundleError(f"it is no ONNX file ({error})") from error
