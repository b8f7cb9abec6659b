"""Check that an exported graph computes what the eager network computes, from the image as it is in its file on.

The image is resized and padded as the SDK does it for the graph, and as the reference does it for the network.
Selection, suppression and masks are those of the eager network (`model/detect.py`), not those of the graph in torch.

Rounding makes a deep quantized network chaotic: a sum that lands within float rounding of a tie moves one integer by
one step, and the layers behind it move more. So the graphs are compared layer by layer on the same inputs: each torch
layer is fed what the exported graph computed before it, and its result before rounding must lie within half a step of
the integer that the exported graph gives. Stored weights must be equal, since one image does not use them all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, Outputs, constant_inputs
from blendmask_edge.errors import BlendMaskError
from blendmask_edge.imaging import preprocess
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.config import InferenceConfig
from blendmask_quantize.model.detect import Candidates, candidates, clip_boxes, with_masks
from blendmask_quantize.model.nms import suppress_within
from blendmask_quantize.model.predictor import network_input, pad_value, to_outputs
from blendmask_quantize.quantization.quantizer import ActivationQuantizer, IntegerConv2d

MASK_TOLERANCE = 1e-3
"""Largest difference of mask logits over the largest logit."""
STEP_TOLERANCE = 2e-2
"""Largest distance of a torch value from what the exported graph rounded to the same integer, in steps."""
BOX_TOLERANCE = 1e-2
"""Largest difference of matched boxes, pixels."""
SCORE_TOLERANCE = 1e-4
"""Largest difference of matched scores; a detection this close to the threshold may be missing."""
INPUT_TOLERANCE = 1e-3
"""Largest difference of the network input, gray levels."""


class ParityError(BlendMaskError):
    """The exported graph disagrees with the network it was made from. Please report it with the configuration."""


@dataclass(frozen=True)
class Parity:
    """How far an exported graph is from the eager network on one image.

    Attributes:
        detections: rows compared.
        unmatched: rows of one that the other lacks.
        mask_error: largest difference of matched mask logits over the largest logit.
        step_error: largest distance of a layer's result from what rounds to the exported graph's integer, in steps.
        weights_changed: integer convolutions whose stored weights, biases or scales differ.
        input_error: largest difference of the network input, gray levels.
        candidates: pairs of location and class above the threshold, within the configuration's limit of each level.
        left_out: instances of the network that the graph lacks because it compares fewer pairs.
    """

    detections: int
    unmatched: int
    mask_error: float
    step_error: float
    weights_changed: int = 0
    input_error: float = 0.0
    candidates: int = 0
    left_out: int = 0

    @property
    def holds(self) -> bool:
        """Whether every tolerance is kept."""
        same = self.unmatched == 0 and self.weights_changed == 0 and self.input_error <= INPUT_TOLERANCE
        return same and self.mask_error <= MASK_TOLERANCE and self.step_error <= STEP_TOLERANCE


def check_parity(
    model: BlendMask, graph: DeployableGraph, exported: onnx.ModelProto, image: NDArray[np.uint8]
) -> Parity:
    """Compare the ONNX rendering, run without optimizations, with the eager network.

    Args:
        model: the eager float network that the graph was made from.
        graph: the deployable graph in torch, its network traced.
        exported: its ONNX.
        image: uint8 (H, W, 3) RGB of any size, as it is in the file.

    Raises:
        ParityError: a tolerance is exceeded.
    """
    parity = measure_parity(model, graph, exported, image)
    if not parity.holds:
        raise ParityError(
            f"the exported graph differs from the network: {parity.unmatched} of {parity.detections} detections have "
            f"no partner, mask logits differ by {parity.mask_error:.1e} of their range (allowed {MASK_TOLERANCE:.0e}), "
            f"layers by {parity.step_error:.1e} steps beyond rounding (allowed {STEP_TOLERANCE:.0e}), the network "
            f"input by {parity.input_error:.1e} gray levels (allowed {INPUT_TOLERANCE:.0e}), and "
            f"{parity.weights_changed} convolutions hold other weights. Nothing was written; please report the "
            "configuration and the versions of torch, onnx and onnxruntime"
        )
    return parity


@torch.no_grad()
def measure_parity(
    model: BlendMask, graph: DeployableGraph, exported: onnx.ModelProto, image: NDArray[np.uint8]
) -> Parity:
    """Measure what `check_parity` checks; same arguments."""
    assert isinstance(graph.given, fx.GraphModule)
    assert isinstance(graph.network, fx.GraphModule)
    preprocessed = preprocess(image, graph.size, pad_value(graph.config.input)).image
    outputs, rounded = _run_exported(exported, preprocessed)
    x, _ = network_input(model, image, graph.size)
    given = graph.normalize(torch.from_numpy(preprocessed))
    fed = _FedInterpreter(graph.given, rounded)
    predictions = fed.run(given) if rounded else model(x)
    expected = eager_detections(model, predictions, graph.asked, graph.size)
    return Parity(
        *_match(expected, outputs, SCORE_TOLERANCE), fed.error, _count_changed(graph.network, exported),
        _input_error(model, x, given), expected.candidates, expected.left_out,
    )  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """Detections of the eager network.

    Attributes:
        outputs: one row a detection.
        cuts: scores at which selection ends; a detection that scores as much is decided by rounding.
        candidates: pairs of location and class above the threshold, before the graph's bound.
        left_out: rows that the bound costs.
    """

    outputs: Outputs
    cuts: tuple[float, ...]
    candidates: int
    left_out: int


def eager_detections(model: BlendMask, predictions: Predictions, bounds: Bounds, size: tuple[int, int]) -> Expected:
    """Detections that the eager network makes of raw predictions, within the bounds that a graph is asked for.

    Args:
        model: gives configuration and top layer.
        predictions: of one image.
        bounds: as asked for; the limits of the configuration hold beside them.
        size: height and width of the network input, pixels.
    """
    inference = model.config.inference
    cuts = [inference.score_threshold**0.5]
    proposals = candidates(predictions, model.config.head.strides, inference)
    every = proposals
    if len(every.scores) > bounds.candidates:
        proposals = proposals[proposals.scores.topk(bounds.candidates).indices]
        cuts.append(float(proposals.scores[-1]))
    selected = _survivors(proposals, inference, bounds)
    rows, left_out = min(limit for limit in (bounds.detections, inference.detections) if limit > 0), 0
    if proposals is not every and len(selected.scores) < rows:
        left_out = min(rows, len(_survivors(every, inference, bounds).scores)) - len(selected.scores)
    if len(selected.scores) > rows:
        selected = selected[torch.arange(rows)]
        cuts.append(float(selected.scores[-1]))
    if inference.clip_before_pooling:
        selected = replace(selected, boxes=clip_boxes(selected.boxes, size))
    outputs = to_outputs(with_masks(model, predictions, selected))
    return Expected(outputs, tuple(cuts), len(every.scores), left_out)


def _survivors(proposals: Candidates, inference: InferenceConfig, bounds: Bounds) -> Candidates:
    selected = suppress_within(proposals.boxes, proposals.scores, proposals.class_id, inference, bounds.rounds)
    return proposals[selected]


def _input_error(model: BlendMask, x: Tensor, given: Tensor) -> float:
    """Largest difference of two network inputs (1, 3, H, W), gray levels."""
    if x.shape != given.shape:
        return float("inf")
    return float(((x - given).abs() * torch.tensor(model.config.input.std)[:, None, None]).max())


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
    results = session.run([*OUTPUT_NAMES, *names], {INPUT_NAME: image, **constant_inputs()})
    return Outputs(*results[: len(OUTPUT_NAMES)]), results[len(OUTPUT_NAMES) :]


def _match(expected: Expected, actual: Outputs, tolerance: float) -> tuple[int, int, float]:
    """Number of expected rows, rows without a partner, and error of the masks.

    Partners have class, score and box in common; equal scores may come in another order. Rows that score within
    `tolerance` of a cut may lack a partner.
    """
    outputs, others = expected.outputs, np.flatnonzero(actual.scores[0] > 0).tolist()
    rows, missing, error = len(outputs.scores[0]), [], 0.0
    largest = max(float(np.abs(outputs.mask_logits).max(initial=0.0)), 1e-6)
    for row in range(rows):
        partner = next((other for other in others if _same(outputs, row, actual, other)), None)
        if partner is None:
            missing.append(outputs.scores[0, row])
            continue
        others.remove(partner)
        difference = np.abs(outputs.mask_logits[0, row] - actual.mask_logits[0, partner]).max()
        error = max(error, float(difference) / largest)
    missing += [actual.scores[0, other] for other in others]
    unmatched = [score for score in missing if all(abs(score - cut) > tolerance for cut in expected.cuts)]
    return rows, len(unmatched), error


def _same(expected: Outputs, row: int, actual: Outputs, other: int) -> bool:
    same_class = expected.class_ids[0, row] == actual.class_ids[0, other]
    near = abs(expected.scores[0, row] - actual.scores[0, other]) <= SCORE_TOLERANCE
    return bool(same_class and near and np.abs(expected.boxes[0, row] - actual.boxes[0, other]).max() <= BOX_TOLERANCE)
