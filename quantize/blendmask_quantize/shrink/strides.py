"""Strides moved up to where the cells that they skip are made, so that those cells are never computed.

The residual networks of the reference have the stride in the first 1x1 convolution of a stage (detectron2
`STRIDE_IN_1X1`), so that of the stage before, where nothing else reads it, three cells in four are made in vain.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

_SUMS: tuple[Any, ...] = (operator.add, torch.add)


def hoist_strides(traced: fx.GraphModule) -> None:
    """Change `traced` in place: what only 1x1 convolutions of one stride read is made at the cells that they read.

    Args:
        traced: each call of a convolution has a module of its own.
    """
    for node in reversed(list(traced.graph.nodes)):
        step = _step_of_readers(traced, node)
        if step > 1 and _can_thin(traced, node):
            for user in node.users:
                _conv(traced, user).stride = (1, 1)
            _thin(traced, node, step)


def _step_of_readers(traced: fx.GraphModule, node: fx.Node) -> int:
    """The stride of all that read `node`, if they are 1x1 convolutions of one stride, else 1."""
    steps = {_conv(traced, user).stride if _is_pointwise(traced, user) else (1, 1) for user in node.users}
    across, down = steps.pop() if len(steps) == 1 else (1, 1)
    return int(across) if across == down else 1


def _thin(traced: fx.GraphModule, node: fx.Node, step: int) -> None:
    """Make `node` give every `step`-th cell of both axes."""
    if _is_conv(traced, node):
        conv = _conv(traced, node)
        conv.stride = (conv.stride[0] * step, conv.stride[1] * step)
        return
    for operand in node.all_input_nodes:
        if len(operand.users) == 1 and _can_thin(traced, operand):
            _thin(traced, operand, step)
            continue
        with traced.graph.inserting_before(node):
            kept = traced.graph.call_function(F.max_pool2d, (operand, 1, step))
        node.replace_input_with(operand, kept)


def _can_thin(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether it is a convolution, an activation or a sum."""
    is_activation = node.target is F.relu or isinstance(_module(traced, node), nn.ReLU | nn.ReLU6)
    return _is_conv(traced, node) or is_activation or node.target in _SUMS


def _is_pointwise(traced: fx.GraphModule, node: fx.Node) -> bool:
    return _is_conv(traced, node) and _conv(traced, node).kernel_size == (1, 1) and not any(_conv(traced, node).padding)


def _is_conv(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether it is a plain convolution; SAME padding depends on the stride."""
    return type(_module(traced, node)) is nn.Conv2d


def _conv(traced: fx.GraphModule, node: fx.Node) -> nn.Conv2d:
    conv = _module(traced, node)
    assert isinstance(conv, nn.Conv2d)
    return conv


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None
