"""Which layers a placement quantizes."""

from __future__ import annotations

import re

from torch import fx

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
