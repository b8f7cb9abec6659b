"""Kind, operands and successors of a node of a traced network."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from blendmask_quantize.model.blendmask import Predictions

_MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu",
    nn.GroupNorm: "group_norm",
    nn.AdaptiveAvgPool2d: "mean",
    nn.Identity: "identity",
}
_CALLS: dict[Any, str] = {
    F.relu: "relu",
    F.relu6: "relu",
    operator.add: "add",
    torch.add: "add",
    torch.cat: "concat",
    F.max_pool2d: "max_pool",
    Predictions: "output",
}


def kind(traced: fx.GraphModule, node: fx.Node) -> str:
    """Return the kind of a node.

    One of input, conv, relu, add, concat, nearest, bilinear, max_pool, mean, group_norm, output and other.
    """
    if node.op == "call_module":
        return _module_kind(traced.get_submodule(str(node.target)))
    if node.op == "placeholder":
        return "input"
    if node.op == "output":
        return "output"
    if node.target is F.interpolate:
        return str(node.kwargs["mode"])
    return _CALLS.get(node.target, "other")


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """The nodes whose tensors `node` reads, in order."""
    return list(node.all_input_nodes)


def fused_activation(traced: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The activation that alone reads what a node computes; None where there is none."""
    users = list(node.users)
    return users[0] if len(users) == 1 and kind(traced, users[0]) == "relu" else None


def activation_cap(traced: fx.GraphModule, node: fx.Node) -> float:
    """Return the upper limit of an activation, ReLU or ReLU6."""
    module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    return 6.0 if node.target is F.relu6 or isinstance(module, nn.ReLU6) else math.inf


def conv_of(traced: fx.GraphModule, node: fx.Node) -> nn.Conv2d:
    """The convolution that a node calls."""
    conv = traced.get_submodule(str(node.target))
    assert isinstance(conv, nn.Conv2d)
    return conv


def _module_kind(module: nn.Module) -> str:
    if isinstance(module, nn.Upsample):
        return module.mode
    return "conv" if isinstance(module, nn.Conv2d) else _MODULES.get(type(module), "other")
