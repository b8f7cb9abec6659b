"""The convolutions of a network as a runtime meets them: shapes, sizes of their inputs, and whether they are INT8."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.layers import SameConv2d
from blendmask_quantize.quantization.ignored import layer_of
from blendmask_quantize.quantization.nodes import kind
from blendmask_quantize.quantization.placement import place
from blendmask_quantize.quantization.trace import trace_network

_LEVEL = re.compile(r"\.\d+$")


@dataclass(frozen=True, order=True)
class ConvShape:
    """A call of a convolution.

    Attributes:
        inputs, outputs: channels.
        height, width: of its input.
        kernel, stride, dilation: height and width of each.
        padding: top, left, bottom, right.
        depthwise: whether each output reads the input of the same number.
        quantized: whether it computes in INT8.
    """

    inputs: int
    outputs: int
    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    depthwise: bool
    quantized: bool

    def of_width(self, inputs: int, outputs: int) -> ConvShape:
        """Return the same call with other numbers of channels."""
        return replace(self, inputs=inputs, outputs=outputs)

    @property
    def name(self) -> str:
        """The shape in a line, by which measured times are filed."""
        return " ".join(map(str, vars(self).values()))


def conv_shapes(model: BlendMask, size: tuple[int, int]) -> dict[str, list[ConvShape]]:
    """Return the calls of each convolution that runs at inference, by the name of its module.

    Args:
        model: the network.
        size: height and width of its input.
    """
    traced = trace_network(model)
    quantized = set(place(traced, "cpu").convs)
    calls: dict[str, list[ConvShape]] = {}
    hollow = copy.deepcopy(traced).to("meta")
    for node in traced.graph.nodes:
        if kind(traced, node) == "conv":
            name, is_quantized = _name(model, layer_of(node)), node.name in quantized
            hollow.get_submodule(str(node.target)).register_forward_pre_hook(
                lambda conv, given, name=name, is_quantized=is_quantized: calls.setdefault(name, []).append(
                    _shape(conv, given[0].shape, is_quantized)
                )
            )
    with torch.no_grad():
        hollow(torch.empty((1, 3, *size), device="meta"))
    return calls


def _name(model: BlendMask, layer: str) -> str:
    """The convolution of the network before it was traced: one that was folded with a normalization a level is one."""
    modules = dict(model.named_modules())
    above = _LEVEL.sub("", layer)
    return above if isinstance(modules.get(above), nn.Conv2d) else layer


def _shape(conv: Any, shape: Any, quantized: bool) -> ConvShape:
    return ConvShape(
        conv.in_channels, conv.out_channels, int(shape[2]), int(shape[3]), conv.kernel_size, conv.stride,
        _padding(conv), conv.dilation, conv.groups > 1, quantized,
    )  # fmt: skip


def _padding(conv: Any) -> tuple[int, int, int, int]:
    if isinstance(conv, SameConv2d):
        left, right, top, bottom = conv.pads
        return top, left, bottom, right
    top, left = conv.padding
    return top, left, top, left
