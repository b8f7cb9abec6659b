"""The folded network as a graph of calls, one module a call, in which quantisers can be placed."""

from __future__ import annotations

import copy
import math
import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from blendmask_quantize.model.blendmask import BlendMask, Predictions
from blendmask_quantize.model.deformable import refuse_deformable
from blendmask_quantize.shrink.fold import fold_norms
from blendmask_quantize.shrink.strides import hoist_strides

_LEAVES = (nn.Conv2d, nn.GroupNorm, nn.Upsample, nn.AdaptiveAvgPool2d, nn.ReLU, nn.ReLU6, nn.Identity)
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


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return isinstance(m, _LEAVES)


def trace_network(model: BlendMask) -> fx.GraphModule:
    """The network of `model`, normalised picture to `Predictions`, folded and traced.

    Every convolution call has a module of its own, so that a tower shared by the levels can have one input range a
    level. Cells that nothing reads are not computed; see `hoist_strides`.

    Raises:
        ConfigError: the network has deformable convolutions.
    """
    refuse_deformable(model.config, "quantise")
    folded = fold_norms(model)
    traced = fx.GraphModule(folded, _Tracer().trace(folded))
    _drop_identities(traced)
    _unshare(traced)
    hoist_strides(traced)
    traced.graph.lint()
    traced.recompile()
    return traced.eval()


def kind(traced: fx.GraphModule, node: fx.Node) -> str:
    """What a node does.

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
    """What an activation, ReLU or ReLU6, lets through at most."""
    module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    return 6.0 if node.target is F.relu6 or isinstance(module, nn.ReLU6) else math.inf


def _module_kind(module: nn.Module) -> str:
    if isinstance(module, nn.Upsample):
        return module.mode
    return "conv" if isinstance(module, nn.Conv2d) else _MODULES.get(type(module), "other")


def _drop_identities(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        if kind(traced, node) == "identity":
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)


def _unshare(traced: fx.GraphModule) -> None:
    seen: dict[str, int] = {}
    for node in traced.graph.nodes:
        if node.op != "call_module":
            continue
        name = str(node.target)
        count = seen[name] = seen.get(name, 0) + 1
        if count > 1:
            node.target = f"{name}_call{count}"
            parent, _, last = node.target.rpartition(".")
            traced.get_submodule(parent).add_module(last, copy.deepcopy(traced.get_submodule(name)))
