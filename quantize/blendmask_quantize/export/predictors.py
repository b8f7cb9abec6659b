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
    if not all(_can_join(network, *pair) for pair in pairs):
        return
    whole = []
    for first, second in pairs:
        name = f"joined_{first.name}"
        convs = [_plain_conv(network, node) for node in (first, second)]
        network.add_submodule(name, _side_by_side([conv for conv in convs if conv is not None]))
        with network.graph.inserting_before(first):
            whole.append(network.graph.call_module(name, (first.args[0],)))
    results.update_arg(_LOGITS, tuple(whole))
    results.update_arg(_CENTERNESS, ())


def _can_join(network: fx.GraphModule, first: fx.Node, second: fx.Node) -> bool:
    one, other = _plain_conv(network, first), _plain_conv(network, second)
    if one is None or other is None or _form(one) != _form(other):
        return False
    return tensor_inputs(first) == tensor_inputs(second)


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
