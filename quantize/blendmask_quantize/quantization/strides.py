"""Strides moved up to where the locations that they skip are made, so that those locations are never computed.

The residual networks of the reference have the stride in the first 1x1 convolution of a stage (detectron2
`STRIDE_IN_1X1`), so that of the stage before, where nothing else reads it, three locations in four are made in vain.
"""

from __future__ import annotations

from torch import fx, nn
from torch.nn import functional as F

from blendmask_quantize.quantization.nodes import conv_of, kind


def hoist_strides(traced: fx.GraphModule) -> None:
    """Change `traced` in place: what only 1x1 convolutions of one stride read is made at the locations that they read.

    Args:
        traced: each call of a convolution has a module of its own.
    """
    for node in reversed(list(traced.graph.nodes)):
        step = _step_of_readers(traced, node)
        if step > 1 and _can_thin(traced, node):
            for user in node.users:
                conv_of(traced, user).stride = (1, 1)
            _thin(traced, node, step)


def _step_of_readers(traced: fx.GraphModule, node: fx.Node) -> int:
    """The stride of all that read `node`, if they are 1x1 convolutions of one stride, else 1."""
    steps = {conv_of(traced, user).stride if _is_pointwise(traced, user) else (1, 1) for user in node.users}
    across, down = steps.pop() if len(steps) == 1 else (1, 1)
    return int(across) if across == down else 1


def _thin(traced: fx.GraphModule, node: fx.Node, step: int) -> None:
    """Make `node` give every `step`-th location of both axes."""
    if _is_conv(traced, node):
        conv = conv_of(traced, node)
        conv.stride = (conv.stride[0] * step, conv.stride[1] * step)
        return
    for operand in node.all_input_nodes:
        if len(operand.users) == 1 and _can_thin(traced, operand):
            _thin(traced, operand, step)
            continue
        with traced.graph.inserting_before(node):
            strided = traced.graph.call_function(F.max_pool2d, (operand, 1, step))
        node.replace_input_with(operand, strided)


def _can_thin(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether it is a convolution, an activation or a sum."""
    return _is_conv(traced, node) or kind(traced, node) in ("relu", "add")


def _is_pointwise(traced: fx.GraphModule, node: fx.Node) -> bool:
    if not _is_conv(traced, node):
        return False
    conv = conv_of(traced, node)
    return conv.kernel_size == (1, 1) and not any(conv.padding)


def _is_conv(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether it is a plain convolution; SAME padding depends on the stride."""
    return kind(traced, node) == "conv" and type(conv_of(traced, node)) is nn.Conv2d
