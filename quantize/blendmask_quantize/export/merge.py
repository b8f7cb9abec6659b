"""Predictors that read the same tensor, made one convolution: the same numbers, of which runtimes waste fewer.

Runtimes compute channels in blocks of 8 or 16, so that four channels of the boxes and the one of the centerness cost as
much as 32 do.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import fx, nn

from blendmask_quantize.model.blendmask import Predictions


def merge_readers(network: fx.GraphModule) -> fx.GraphModule:
    """A network in which float predictors of the same kind that read the same tensor are one, whose result is cut.

    Predictors are convolutions that at most an activation separates from the output; inside the network, cutting would
    cost more than it spares.

    Args:
        network: traced; it is left as it is, and shares its modules with the result.
    """
    merged = fx.GraphModule(network, network.graph.__deepcopy__({}))
    for readers in _groups(merged):
        _merge(merged, readers)
    merged.graph.lint()
    merged.recompile()
    return merged.eval()


def _groups(network: fx.GraphModule) -> list[list[fx.Node]]:
    """Calls of convolutions that can be one, in graph order, two or more a group."""
    groups: dict[tuple[object, ...], list[fx.Node]] = {}
    for node in network.graph.nodes:
        conv = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if type(conv) is nn.Conv2d and conv.groups == 1 and _is_predictor(node):
            kind = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.bias is None)
            groups.setdefault((node.args[0], *kind), []).append(node)
    return [nodes for nodes in groups.values() if len(nodes) > 1]


def _is_predictor(node: fx.Node) -> bool:
    return all(_gives_output(user) or all(map(_gives_output, user.users)) for user in node.users)


def _gives_output(node: fx.Node) -> bool:
    return node.op == "output" or node.target is Predictions


def _merge(network: fx.GraphModule, readers: Sequence[fx.Node]) -> None:
    convs = [network.get_submodule(str(node.target)) for node in readers]
    name = f"merged_{readers[0].name}"
    network.add_submodule(name, _side_by_side([conv for conv in convs if isinstance(conv, nn.Conv2d)]))
    ends = list(accumulate(conv.out_channels for conv in convs if isinstance(conv, nn.Conv2d)))
    with network.graph.inserting_before(readers[0]):
        whole = network.graph.call_module(name, (readers[0].args[0],))
        for node, start, end in zip(readers, [0, *ends], ends, strict=False):
            part = network.graph.call_function(torch.narrow, (whole, 1, start, end - start))
            node.replace_all_uses_with(part)
    for node in readers:
        network.graph.erase_node(node)


@torch.no_grad()
def _side_by_side(convs: Sequence[nn.Conv2d]) -> nn.Conv2d:
    joined = copy.deepcopy(convs[0])
    joined.out_channels = sum(conv.out_channels for conv in convs)
    joined.weight = nn.Parameter(torch.cat([conv.weight for conv in convs]), requires_grad=False)
    biases = [conv.bias for conv in convs if conv.bias is not None]
    if biases:
        joined.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return joined
