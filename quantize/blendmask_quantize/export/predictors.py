"""The predictors of a traced network as the deployable graph computes them: less work, the same numbers.

Runtimes compute channels in blocks of 8 or 16, so class logits and centerness that read the same tensor are one
convolution, whose result is cut only after the levels are joined. Box distances are wanted at the candidates alone, so
their convolutions leave the network, and the graph multiplies their weights with the candidates' 3x3 patches.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from blendmask_quantize.model.blendmask import Predictions
from blendmask_quantize.quantization.nodes import kind, tensor_inputs
from blendmask_quantize.quantization.quantizer import IntegerConv2d

_LOGITS, _REGRESSION, _CENTERNESS, _TOWERS = (Predictions._fields.index(name) for name in Predictions._fields[:4])


@dataclass(frozen=True)
class BoxPredictors:
    """Convolutions of the box distances, one a level, as one product with 3x3 patches whose channels come last.

    Attributes:
        weight: (levels * 4, 9 * C), finest level first; a ReLU follows.
        bias: (levels * 4,).
    """

    weight: Tensor
    bias: Tensor


def split_predictors(network: fx.GraphModule) -> tuple[fx.GraphModule, BoxPredictors | None]:
    """The network without its box predictors, if they read the towers, and with joined class predictors, if possible.

    Of joined predictors, `logits` has the class logits and then the centerness, and `centerness` is empty. Without box
    predictors, `regression` is empty.

    Args:
        network: traced, its results are `Predictions`; it is left as it is, and shares its modules with the first
            result.
    """
    lean = fx.GraphModule(network, network.graph.__deepcopy__({}))
    results = next(node for node in lean.graph.nodes if node.target is Predictions)
    boxes = _take_boxes(lean, results)
    _join_classes(lean, results)
    lean.graph.eliminate_dead_code()
    lean.graph.lint()
    lean.recompile()
    return lean.eval(), boxes


def _take_boxes(network: fx.GraphModule, results: fx.Node) -> BoxPredictors | None:
    """Take the box predictors out of the results; None where one is not a 3x3 convolution of its tower."""
    convs = []
    for node, tower in zip(results.args[_REGRESSION], results.args[_TOWERS], strict=True):  # type: ignore[arg-type]
        before = tensor_inputs(node)[0] if kind(network, node) == "relu" else node
        conv = _plain_conv(network, before)
        if before is node or conv is None or _form(conv) != _NEAREST or tensor_inputs(before)[0] is not tower:
            return None
        convs.append(conv)
    results.update_arg(_REGRESSION, ())
    weight = torch.cat([conv.weight.detach().permute(0, 2, 3, 1).flatten(1) for conv in convs])
    return BoxPredictors(weight, torch.cat([_bias(conv) for conv in convs]))


def _join_classes(network: fx.GraphModule, results: fx.Node) -> None:
    """Make one convolution of the two predictors of each level, if those of all levels allow it."""
    pairs = list(zip(results.args[_LOGITS], results.args[_CENTERNESS], strict=True))  # type: ignore[arg-type]
    joined = [_joined(network, *pair) for pair in pairs]
    if any(conv is None for conv in joined):
        return
    whole = []
    for conv, (first, _) in zip(joined, pairs, strict=True):
        network.add_submodule(f"joined_{first.name}", conv)  # type: ignore[arg-type]
        with network.graph.inserting_before(first):
            whole.append(network.graph.call_module(f"joined_{first.name}", (first.args[0],)))
    results.update_arg(_LOGITS, tuple(whole))
    results.update_arg(_CENTERNESS, ())


def _joined(network: fx.GraphModule, first: fx.Node, second: fx.Node) -> nn.Module | None:
    """Two predictors of the same tensor as one, both float or both with integer weights; None if they do not fit."""
    if tensor_inputs(first) != tensor_inputs(second):
        return None
    one, other = (network.get_submodule(str(node.target)) for node in (first, second))
    if isinstance(one, IntegerConv2d) and isinstance(other, IntegerConv2d) and _fit(one.conv, other.conv):
        return _integers_side_by_side(one, other)
    pair = [_plain_conv(network, node) for node in (first, second)]
    floats = [conv for conv in pair if conv is not None]
    return _side_by_side(floats) if len(floats) == len(pair) and _fit(*floats) else None


def _fit(one: nn.Conv2d, other: nn.Conv2d) -> bool:
    return _form(one) == _form(other) and one.groups == other.groups == 1


def _plain_conv(network: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    """The float convolution that a node calls."""
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if type(module) is nn.Conv2d and module.groups == 1 else None


def _form(conv: nn.Conv2d) -> tuple[object, ...]:
    return conv.kernel_size, conv.stride, conv.padding, conv.dilation


_NEAREST = _form(nn.Conv2d(1, 1, 3, padding=1))


def _bias(conv: nn.Conv2d) -> Tensor:
    return torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()


@torch.no_grad()
def _side_by_side(convs: Sequence[nn.Conv2d]) -> nn.Conv2d:
    joined = copy.deepcopy(convs[0])
    joined.out_channels = sum(conv.out_channels for conv in convs)
    joined.weight = nn.Parameter(torch.cat([conv.weight for conv in convs]), requires_grad=False)
    joined.bias = nn.Parameter(torch.cat([_bias(conv) for conv in convs]), requires_grad=False)
    return joined


def _integers_side_by_side(one: IntegerConv2d, other: IntegerConv2d) -> IntegerConv2d:
    """As `_side_by_side`; the input is the same, so only what is kept for each output channel is put together."""
    joined = copy.deepcopy(one)
    joined.conv.out_channels += other.conv.out_channels
    for name, buffer in one.named_buffers():
        joined.register_buffer(name, torch.cat([buffer, other.get_buffer(name)]))
    return joined
