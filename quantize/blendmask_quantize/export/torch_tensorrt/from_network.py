"""The quantized network in torch, with the operator of a compiler for its rounding: the straight way to Torch-TensorRT.

It has the scales, the integer weights and the post-processing of the `tensorrt` graph of the bundle, which is exported
from the same network, so the accuracy that was measured of that graph holds for it, too.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.torch_tensorrt.rounding import Quantize, round_to_steps
from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.quantization.nodes import tensor_inputs
from blendmask_quantize.quantization.quantizer import ActivationQuantizer, IntegerConv2d, dequantize_channels

_TOWERS = Predictions._fields.index("towers")
"""What is before in `Predictions` becomes boxes and scores."""


class ExplicitNetwork(nn.Module):
    """A deployable graph that rounds by `quantize`: image and threshold in; boxes, scores, class ids, mask logits out.

    Args:
        graph: with a network of the `tensorrt` variant, and static shapes; it is copied.
        quantize: rounds each activation, and each weight, which it gets as real values.
        half: whether what is not quantized runs in float16, but for what leads to boxes, scores or a rounding; as
            `blendmask_edge.runtimes.tensorrt.half` does it in ONNX.

    Attributes:
        examples: zeros as each input takes them: uint8 (1, H, W, 3) and float32 (1,).
    """

    def __init__(self, graph: DeployableGraph, quantize: Quantize = round_to_steps, *, half: bool = False) -> None:
        super().__init__()
        self.deployable = copy.deepcopy(graph)  # `graph` is a name that programs of torch have themselves
        network = self.deployable.network
        assert isinstance(network, fx.GraphModule)
        network.delete_all_unused_submodules()
        exact = _predicting(network)
        for target in {str(node.target) for node in network.graph.nodes if node.op == "call_module"}:
            in_half = half and target not in exact
            network.set_submodule(target, _explicit(network.get_submodule(target), quantize, half=in_half))
        self.deployable.top_k = _top_k
        if half:
            self.deployable.remainder = torch.float16
        self.examples = (torch.zeros((1, *graph.size, 3), dtype=torch.uint8), torch.zeros(1))
        self.eval()

    def forward(self, image: Tensor, score_threshold: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the graph, see `DeployableGraph.forward`, in a tuple that can be saved."""
        return tuple(self.deployable(image, score_threshold))


def _top_k(vector: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """TensorRT's TopK takes no vector."""
    values, places = torch.topk(vector[None], count)
    return values[0], places[0]


def _predicting(network: fx.GraphModule) -> set[str]:
    """Names of the convolutions that predict boxes and scores."""
    results = next(node for node in network.graph.nodes if node.target is Predictions)
    predictions: Any = results.args[:_TOWERS]
    names, waiting = set[str](), [node for levels in predictions for node in levels]
    while waiting:
        node = waiting.pop()
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, (nn.Conv2d, IntegerConv2d)):
            names.add(str(node.target))
        else:
            waiting += tensor_inputs(node)
    return names


def _explicit(module: nn.Module, quantize: Quantize, *, half: bool) -> nn.Module:
    if isinstance(module, ActivationQuantizer):
        return _Rounding(module, quantize)
    if isinstance(module, IntegerConv2d):
        return _RoundedConv2d(module, quantize)
    return _HalfConv2d(module) if half and isinstance(module, nn.Conv2d) else module


class _Rounding(nn.Module):
    scale: Tensor

    def __init__(self, quantizer: ActivationQuantizer, quantize: Quantize) -> None:
        super().__init__()
        qparams = quantizer.qparams
        assert (qparams.zero_point, qparams.low, qparams.high) == (0, -128, 127)
        self.quantize = quantize
        self.register_buffer("scale", torch.tensor(qparams.scale, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return self.quantize(x, self.scale)


class _RoundedConv2d(nn.Module):
    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, conv: IntegerConv2d, quantize: Quantize) -> None:
        super().__init__()
        assert not conv.has_integer_bias
        self.quantize, self.conv = quantize, conv.conv
        self.register_buffer("weight", dequantize_channels(conv.integers, conv.weight_scale))
        self.register_buffer("scale", conv.weight_scale)
        self.register_buffer("bias", conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv._conv_forward(x, self.quantize(self.weight, self.scale), self.bias)


class _HalfConv2d(nn.Module):
    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv.half()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(x.half())
        return result.float()
