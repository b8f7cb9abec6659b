"""Which layers a placement quantizes."""

from __future__ import annotations

import re

from torch import fx

from blendmask_quantize.model.sparsity import sparse_layers
from blendmask_quantize.quantization.ignored import layer_of
from blendmask_quantize.quantization.placement import place

_LEVEL = re.compile(r"(?<=\.)(\d+)\.\d+$")


def quantized_layers(traced: fx.GraphModule, variant: str) -> set[str]:
    """Name the convolutions of a network that have 8-bit weights in a variant, "cpu" or "tensorrt".

    Names are those of the network before it was traced: a convolution that was folded with one normalization a level
    is one layer.
    """
    convs = set(place(traced, variant).convs)
    traced_names = {layer_of(node) for node in traced.graph.nodes if node.name in convs}
    return traced_names | {_LEVEL.sub(r"\1", name) for name in traced_names}


def count_sparse(traced: fx.GraphModule, variant: str) -> int:
    """Count the convolutions with 8-bit weights that are 2:4 sparse in float."""
    convs = set(place(traced, variant).convs)
    targets = {str(node.target) for node in traced.graph.nodes if node.name in convs}
    return len(targets.intersection(sparse_layers(traced)))
