"""2:4 sparsity of the integer weights in an exported graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from blendmask_quantize.export.parity import ParityError
from blendmask_quantize.model.sparsity import GROUP, NONZERO, PATTERN


@dataclass(frozen=True)
class Sparsity:
    """How much of a graph has the pattern.

    Attributes:
        layers: convolutions all of whose groups have it.
        groups: share of the groups of four weights that have it, 0 to 1, over all INT8 convolutions with such groups.
    """

    layers: int
    groups: float


def measure_sparsity(graph: bytes) -> Sparsity:
    """Count the groups of four neighboring input channels of INT8 weights in which at least two are zero.

    Args:
        graph: ONNX with explicit quantizers.
    """
    model = onnx.load_from_string(graph)
    constants = {array.name: array for array in model.graph.initializer}
    dequantized = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    names = {dequantized.get(node.input[1], "") for node in model.graph.node if node.op_type == "Conv"}
    weights = (numpy_helper.to_array(constants[name]) for name in sorted(names) if name in constants)
    layers = [_groups(weight) for weight in weights if weight.shape[1] % GROUP == 0]
    whole = sum(1 for groups in layers if groups.all())
    return Sparsity(whole, float(np.concatenate(layers).mean()) if layers else 0.0)


def check_sparsity(graphs: Mapping[str, bytes], expected: int) -> dict[str, Any]:
    """See that as many layers of every graph are sparse as of the network that was quantized.

    Args:
        graphs: INT8 graphs by variant.
        expected: number of sparse convolutions in the network, 0 for a dense one.

    Returns:
        What a manifest remembers, in JSON's types; empty for a dense network.

    Raises:
        ParityError: a graph has fewer.
    """
    if not expected:
        return {}
    measured = {variant: measure_sparsity(graph) for variant, graph in graphs.items()}
    for variant, one in measured.items():
        if one.layers < expected:
            raise ParityError(
                f"the {variant} graph has {one.layers} convolutions with {PATTERN} sparse weights, {expected} were "
                "expected: quantizing broke the pattern. Leave out the refinement steps with --steps none, and report "
                "this with the configuration"
            )
    groups = {variant: round(one.groups, 4) for variant, one in measured.items()}
    return {"pattern": PATTERN, "layers": expected, "groups": groups}


def _groups(weight: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether each group (K * C / 4 * kh * kw,) has the pattern."""
    outputs, inputs, *kernel = weight.shape
    nonzero = (weight.reshape(outputs, inputs // GROUP, GROUP, *kernel) != 0).sum(axis=2)
    return np.asarray(nonzero <= NONZERO).ravel()
