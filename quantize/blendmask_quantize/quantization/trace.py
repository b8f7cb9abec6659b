"""The folded network as a graph of calls, one module a call, in which quantizers can be placed."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import fx, nn

from blendmask_quantize.model.backbones.deformable import refuse_deformable
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.patterns import Pattern
from blendmask_quantize.quantization.fold import fold_norms
from blendmask_quantize.quantization.ignored import mark_ignored
from blendmask_quantize.quantization.nodes import kind
from blendmask_quantize.quantization.strides import hoist_strides

_LEAVES = (nn.Conv2d, nn.GroupNorm, nn.Upsample, nn.AdaptiveAvgPool2d, nn.ReLU, nn.ReLU6, nn.Identity)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return isinstance(m, _LEAVES)


def trace_network(model: BlendMask, ignored: Sequence[Pattern] = ()) -> fx.GraphModule:
    """The network of `model`, normalized image to `Predictions`, folded and traced.

    Every convolution call has a module of its own, so that a tower shared by the levels can have one input range a
    level. Locations that nothing reads are not computed; see `hoist_strides`.

    Args:
        model: the network.
        ignored: layers that the placement leaves in float; see `mark_ignored`.

    Raises:
        ConfigError: the network has deformable convolutions, or an ignored layer is not in it.
    """
    refuse_deformable(model.config, "quantize")
    folded = fold_norms(model)
    traced = fx.GraphModule(folded, _Tracer().trace(folded))
    _drop_identities(traced)
    _unshare(traced)
    hoist_strides(traced)
    mark_ignored(traced, ignored)
    traced.graph.lint()
    traced.recompile()
    return traced.eval()


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
