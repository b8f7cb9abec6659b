"""Does the exported graph compute what the torch graph computes?

Rounding makes a deep quantised network chaotic: a sum that lands within float rounding of a tie moves one integer by one
step, and the layers behind it move more. So the graphs are compared layer by layer on the same inputs: each torch layer
is fed what the exported graph computed before it, and may differ by one step in a tie here and there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from blendmask_edge.bundle.graph import INPUT_NAME, OUTPUT_NAMES, Outputs
from blendmask_edge.errors import BlendMaskError
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.shrink.quantizer import ActivationQuantizer

MASK_TOLERANCE = 1e-3
"""Largest difference of mask logits over the largest logit."""
TIE_SHARE = 1e-2
"""Largest share of integers of one layer that may differ, by one step each. Bilinear resizing by two makes exact ties."""
SAME_BOX = 1e-2
"""Largest difference of matched boxes, pixels."""
_MARKER = "quantize_dequantize"


class ParityError(BlendMaskError):
    """The exported graph disagrees with the network it was made from. Please report it with the configuration."""


@dataclass(frozen=True)
class Parity:
    """How far an exported graph is from its torch graph on one picture.

    Attributes:
        detections: rows compared.
        unmatched: rows of one that the other lacks.
        mask_error: largest difference of matched mask logits over the largest logit.
        steps: largest difference of an integer in any layer.
        ties: largest share of integers that differ in any layer.
    """

    detections: int
    unmatched: int
    mask_error: float
    steps: float = 0.0
    ties: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every tolerance is kept."""
        same = self.unmatched == 0 and self.mask_error <= MASK_TOLERANCE
        return same and self.steps <= 1 and self.ties <= TIE_SHARE


def check_parity(graph: DeployableGraph, exported: onnx.ModelProto, picture: NDArray[np.uint8]) -> Parity:
    """Compare the torch graph with its ONNX rendering, run without optimisations.

    Args:
        graph: the deployable graph in torch, its network traced.
        exported: its ONNX.
        picture: uint8 (1, H, W, 3).

    Raises:
        ParityError: a tolerance is not kept.
    """
    found = _compare_layers(graph, exported, picture)
    if not found.holds:
        raise ParityError(
            f"the exported graph differs from the network: {found.unmatched} of {found.detections} detections have no "
            f"partner, mask logits differ by {found.mask_error:.1e} of their range (allowed {MASK_TOLERANCE:.0e}), layers by "
            f"{found.steps:.0f} steps in {found.ties:.1e} of their values (allowed 1 in {TIE_SHARE:.0e}). Nothing was "
            "written; please report the configuration and the versions of torch, onnx and onnxruntime"
        )
    return found


def unoptimised_session(graph: bytes) -> ort.InferenceSession:
    """The graph as written: no fusion, no layout change, the reference arithmetic of each operator."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class _FedInterpreter(fx.Interpreter):
    """Runs the torch network, but hands on the exported graph's value behind every quantiser."""

    def __init__(self, network: fx.GraphModule, values: list[NDArray[np.float32]]) -> None:
        super().__init__(network)
        self.values, self.steps, self.ties = iter(values), 0.0, 0.0

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        module = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if not isinstance(module, ActivationQuantizer):
            return result
        value = torch.from_numpy(next(self.values))
        difference = ((result - value) / module.grid.scale).abs().round()
        self.steps = max(self.steps, difference.max().item())
        self.ties = max(self.ties, (difference > 0).float().mean().item())
        return value


def _compare_layers(graph: DeployableGraph, exported: onnx.ModelProto, picture: NDArray[np.uint8]) -> Parity:
    outputs, values = _run_exported(exported, picture)
    assert isinstance(graph.network, fx.GraphModule)
    fed = _FedInterpreter(graph.network, values)
    with torch.no_grad():
        predictions = fed.run(graph.normalise(torch.from_numpy(picture)))
        expected = Outputs(*(_array(output) for output in graph.finish(predictions)))
    matched = _match(expected, outputs)
    return Parity(matched.detections, matched.unmatched, matched.mask_error, fed.steps, fed.ties)


def _run_exported(
    exported: onnx.ModelProto, picture: NDArray[np.uint8]
) -> tuple[Outputs, list[NDArray[np.float32]]]:
    """Outputs of the graph and the rounded activations in graph order."""
    opened = onnx.ModelProto()
    opened.CopyFrom(exported)
    names = [
        node.output[0]
        for node in exported.graph.node
        if node.op_type == "DequantizeLinear" and node.output[0].startswith(_MARKER)
    ]
    opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = unoptimised_session(opened.SerializeToString())
    results = session.run([*OUTPUT_NAMES, *names], {INPUT_NAME: picture})
    return Outputs(*results[: len(OUTPUT_NAMES)]), results[len(OUTPUT_NAMES) :]


def _match(expected: Outputs, found: Outputs) -> Parity:
    """Match rows by class and box; equal scores may come in another order."""
    rows, others = np.flatnonzero(expected.scores[0] > 0), set(np.flatnonzero(found.scores[0] > 0).tolist())
    scale = max(float(np.abs(expected.mask_logits[0, rows]).max(initial=0.0)), 1e-6)
    unmatched, error = 0, 0.0
    for row in rows:
        partner = next((other for other in sorted(others) if _same(expected, row, found, other)), None)
        if partner is None:
            unmatched += 1
            continue
        others.discard(partner)
        difference = np.abs(expected.mask_logits[0, row] - found.mask_logits[0, partner]).max()
        error = max(error, float(difference) / scale)
    return Parity(len(rows), unmatched + len(others), error)


def _same(expected: Outputs, row: int, found: Outputs, other: int) -> bool:
    same_class = expected.class_ids[0, row] == found.class_ids[0, other]
    return bool(same_class) and bool(np.abs(expected.boxes[0, row] - found.boxes[0, other]).max() < SAME_BOX)


def _array(tensor: Tensor) -> Any:
    return tensor.numpy()
