"""Small ONNX files with one property each, to be looked at by the preflight check; they need not run."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import pytest

from blendmask_edge.bundle import GraphEntry


def make_graph(
    operators: Sequence[str] = (),
    opset: int = 17,
    top_k: Optional[int] = None,
    zero_point: str = "INT8",
    zero: int = 0,
    int32_bias: bool = False,
    half: bool = False,
    first: str = "Cast",
    domain: str = "",
    packed: bool = False,
    constant_node: bool = False,
    attributes: Optional[Dict[str, Any]] = None,
) -> bytes:
    """Return a graph: uint8 image, `first`, a Q/DQ pair, then `operators` of `domain`, and a TopK if asked for."""
    onnx = pytest.importorskip("onnx")
    helper, tensor = onnx.helper, onnx.TensorProto

    def constant(name: str, kind: str, values: Sequence[float]) -> Any:
        data = helper.make_tensor(name, getattr(tensor, kind), [len(values)], values)
        return data if packed else onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(data), name)

    weights = [
        constant("scale", "FLOAT16" if half else "FLOAT", [0.5]),
        constant("zero", zero_point, [zero]),
        constant("bias", "INT32", [-7, 300]),
    ]
    nodes = [
        helper.make_node(first, ["image"], ["pixels"]),
        helper.make_node("QuantizeLinear", ["pixels", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["out"]),
    ]
    if int32_bias:
        nodes.append(helper.make_node("DequantizeLinear", ["bias", "scale"], ["float_bias"]))
    for number, operator in enumerate(operators):
        nodes.append(helper.make_node(operator, ["out"], [f"o{number}"], domain=domain, **(attributes or {})))
    if top_k is not None:
        number_of = constant("k", "INT64", [top_k])
        if constant_node:
            nodes.append(helper.make_node("Constant", [], ["k"], value=number_of))
        else:
            weights.append(number_of)
        nodes.append(helper.make_node("TopK", ["out", "k"], ["best", "where"]))
    image = helper.make_tensor_value_info("image", tensor.UINT8, [1, 8, 8, 3])
    out = helper.make_tensor_value_info("out", tensor.FLOAT, [1, 8, 8, 3])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], [out], weights),
        opset_imports=[helper.make_opsetid("com.example", 1), helper.make_opsetid("", opset)],
    )
    return bytes(model.SerializeToString())


def entry(variant: str, data: bytes, opset: int = 17) -> GraphEntry:
    """Describe a graph for a manifest."""
    return GraphEntry.describe(variant, data, opset=opset, precision="float32" if variant == "float" else "int8")
