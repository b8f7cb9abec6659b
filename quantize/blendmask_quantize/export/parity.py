"""Does the exported graph compute what the torch graph computes?

Rounding makes a deep quantized network chaotic: a sum that lands within float rounding of a tie moves one integer by
one step, and the layers behind it move more. So the graphs are compared layer by layer on the same inputs: each torch
layer is fed what the exported graph computed before it, and its result before rounding must lie within half a step of
the integer that the exported graph gives. Stored weights must be equal, since one image does not use them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import fx

from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, Outputs
from blendmask_edge.errors import BlendMaskError
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.quantization.quantizer import ActivationQuantizer, IntegerConv2d

MASK_TOLERANCE = 1e-3
"""Largest difference of mask logits over the largest logit."""
STEP_TOLERANCE = 2e-2
"""Largest distance of a torch value from what the exported graph rounded to the same integer, in steps."""
BOX_TOLERANCE = 1e-2
"""Largest difference of matched boxes, pixels."""
SCORE_TOLERANCE = 1e-4
"""Largest difference of matched scores; a detection this close to the threshold may be missing."""


class ParityError(BlendMaskError):
    """The exported graph disagrees with the network it was made from. Please report it with the configuration."""


@dataclass(frozen=True)
class Parity:
    """How far an exported graph is from its torch graph on one image.

    Attributes:
        detections: rows compared.
        unmatched: rows of one that the other lacks.
        mask_error: largest difference of matched mask logits over the largest logit.
        step_error: largest distance of a layer's result from what rounds to the exported graph's integer, in steps.
        weights_changed: integer convolutions whose stored weights, biases or scales differ.
    """

    detections: int
    unmatched: int
    mask_error: float
    step_error: float
    weights_changed: int = 0

    @property
    def holds(self) -> bool:
        """Whether every tolerance is kept."""
        same = self.unmatched == 0 and self.weights_changed == 0
        return same and self.mask_error <= MASK_TOLERANCE and self.step_error <= STEP_TOLERANCE


def check_parity(graph: DeployableGraph, exported: onnx.ModelProto, image: NDArray[np.uint8]) -> Parity:
    """Compare the torch graph with its ONNX rendering, run without optimizations.

    Args:
        graph: the deployable graph in torch, its network traced.
        exported: its ONNX.
        image: uint8 (1, H, W, 3).

    Raises:
        ParityError: a tolerance is not kept.
    """
    found = measure_parity(graph, exported, image)
    if not found.holds:
        raise ParityError(
            f"the exported graph differs from the network: {found.unmatched} of {found.detections} detections have no "
            f"partner, mask logits differ by {found.mask_error:.1e} of their range (allowed {MASK_TOLERANCE:.0e}), "
            f"layers by {found.step_error:.1e} steps beyond rounding (allowed {STEP_TOLERANCE:.0e}), and "
            f"{found.weights_changed} convolutions hold other weights. Nothing was written; please report the "
            "configuration and the versions of torch, onnx and onnxruntime"
        )
    return found


def measure_parity(graph: DeployableGraph, exported: onnx.ModelProto, image: NDArray[np.uint8]) -> Parity:
    """As `check_parity`, without judging."""
    assert isinstance(graph.network, fx.GraphModule)
    outputs, rounded = _run_exported(exported, image)
    fed = _FedInterpreter(graph.network, rounded)
    with torch.no_grad():
        predictions = fed.run(graph.normalize(torch.from_numpy(image)))
        expected = Outputs(*(output.numpy() for output in graph.postprocess(predictions)))
    threshold = graph.config.inference.score_threshold**0.5
    matched = _match(expected, outputs, threshold + SCORE_TOLERANCE)
    return Parity(*matched, fed.error, _count_changed(graph.network, exported))


def unoptimised_session(graph: bytes) -> ort.InferenceSession:
    """The graph as written: no fusion, no layout change, the reference arithmetic of each operator."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class _FedInterpreter(fx.Interpreter):
    """Runs the torch network, but hands on the exported graph's value behind every quantizer.

    `error` becomes infinite where the exported graph has more or fewer quantizers, or tensors of another shape.
    """

    def __init__(self, network: fx.GraphModule, rounded: list[NDArray[np.float32]]) -> None:
        super().__init__(network)
        quantizers = sum(isinstance(module, ActivationQuantizer) for module in network.modules())
        self.rounded, self.error = iter(rounded), 0.0 if quantizers == len(rounded) else float("inf")

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        if not isinstance(module, ActivationQuantizer):
            return super().call_module(target, args, kwargs)
        value = next(self.rounded, None)
        if value is None or value.shape != args[0].shape:
            self.error = float("inf")
            return module(args[0])
        rounded, qparams = torch.from_numpy(value), module.qparams
        clipped = (args[0] / qparams.scale).clamp(qparams.low - qparams.zero_point, qparams.high - qparams.zero_point)
        steps = rounded / qparams.scale
        rounding_distance = (steps - steps.round()).abs().max().item()
        self.error = max(self.error, rounding_distance, (clipped - steps).abs().max().item() - 0.5)
        return rounded


def _count_changed(network: fx.GraphModule, exported: onnx.ModelProto) -> int:
    """Integer convolutions, in graph order, whose stored tensors are not the network's."""
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in exported.graph.initializer}
    sources = {node.output[0]: node.input[:2] for node in exported.graph.node if node.op_type == "DequantizeLinear"}
    convs = [node for node in exported.graph.node if node.op_type == "Conv" and node.input[1] in sources]
    modules = [m for m in _called(network) if isinstance(m, IntegerConv2d)]
    changed = abs(len(convs) - len(modules))
    for conv, module in zip(convs, modules, strict=False):
        names = [*sources[conv.input[1]], *sources.get(conv.input[2], conv.input[2:])]
        ours = [module.integers, module.weight_scale, module.bias, *([module.bias_scale] if len(names) > 3 else [])]
        pairs = zip(names, ours, strict=True)
        changed += not all(np.array_equal(values[name], tensor.numpy()) for name, tensor in pairs)
    return changed


def _called(network: fx.GraphModule) -> list[torch.nn.Module]:
    return [network.get_submodule(str(node.target)) for node in network.graph.nodes if node.op == "call_module"]


def _run_exported(exported: onnx.ModelProto, image: NDArray[np.uint8]) -> tuple[Outputs, list[NDArray[np.float32]]]:
    """Outputs of the graph, and the activations behind its quantizers in graph order."""
    opened = onnx.ModelProto()
    opened.CopyFrom(exported)
    integers = {node.output[0] for node in exported.graph.node if node.op_type == "QuantizeLinear"}
    names = [
        node.output[0]
        for node in exported.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in integers
    ]
    opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = unoptimised_session(opened.SerializeToString())
    results = session.run([*OUTPUT_NAMES, *names], {INPUT_NAME: image})
    return Outputs(*results[: len(OUTPUT_NAMES)]), results[len(OUTPUT_NAMES) :]


def _match(expected: Outputs, found: Outputs, sure: float) -> tuple[int, int, float]:
    """Number of rows, rows without a partner among those that score at least `sure`, and error of the masks.

    Partners have class, score and box in common; equal scores may come in another order.
    """
    rows, others = np.flatnonzero(expected.scores[0] > 0), np.flatnonzero(found.scores[0] > 0).tolist()
    largest = max(float(np.abs(expected.mask_logits[0, rows]).max(initial=0.0)), 1e-6)
    missing, error = [], 0.0
    for row in rows.tolist():
        partner = next((other for other in others if _same(expected, row, found, other)), None)
        if partner is None:
            missing.append(expected.scores[0, row])
            continue
        others.remove(partner)
        difference = np.abs(expected.mask_logits[0, row] - found.mask_logits[0, partner]).max()
        error = max(error, float(difference) / largest)
    missing += [found.scores[0, other] for other in others]
    return len(rows), sum(bool(score >= sure) for score in missing), error


def _same(expected: Outputs, row: int, found: Outputs, other: int) -> bool:
    same_class = expected.class_ids[0, row] == found.class_ids[0, other]
    near = abs(expected.scores[0, row] - found.scores[0, other]) <= SCORE_TOLERANCE
    return bool(same_class and near and np.abs(expected.boxes[0, row] - found.boxes[0, other]).max() <= BOX_TOLERANCE)
