"""Operators whose result has the shape of what they read, or the shape that it broadcasts to."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Callable, Dict, Optional, Sequence, Tuple

from blendmask_edge.bundle.onnx_file import INT32, INT64, ITEM_BYTES
from blendmask_edge.bundle.operators.bound import Bound, Call, Interval, Rule, Shape, joined

_LARGEST_EXACT = 2**31
"""Beyond it sums and products are not followed, as integers of a runtime may wrap around."""


def _same(call: Call) -> Bound:
    return replace(call.input(0), values=())


def _broadcast(call: Call) -> Bound:
    bounds = [call.input(place) for place in range(len(call.inputs))]
    shape: Shape = ()
    for bound in bounds:
        shape = joined(shape, bound.shape)
    return Bound(shape, is_exact=all(bound.is_exact for bound in bounds))


def _compare(call: Call) -> Bound:
    return replace(_broadcast(call), values=((0, 1),))


def _arithmetic(combine: Callable[[Interval, Interval], Interval]) -> Rule:
    def rule(call: Call) -> Bound:
        result = _broadcast(call)
        left, right = call.input(0).values, call.input(1).values
        if len(left) != 1 or len(right) != 1:
            return result
        return replace(result, values=_followed([combine(left[0], right[0])]))

    return rule


def _followed(values: Sequence[Interval]) -> Tuple[Interval, ...]:
    """Return the ranges, or none where an integer may have wrapped around."""
    return tuple(values) if all(max(-low, high) < _LARGEST_EXACT for low, high in values) else ()


def _multiplied(left: Interval, right: Interval) -> Interval:
    products = [a * b for a in left for b in right]
    return min(products), max(products)


def _cast(call: Call) -> Bound:
    bound, dtype = call.input(0), call.integer("to")
    if dtype not in ITEM_BYTES:
        raise ValueError(f"it casts to type {dtype}")
    if dtype not in (INT32, INT64):
        return replace(bound, values=())
    return replace(bound, values=_followed([(math.floor(low), math.ceil(high)) for low, high in bound.values]))


def _clip(call: Call) -> Bound:
    bound = call.input(0)
    least, most = _scalar(call.optional(1), -math.inf), _scalar(call.optional(2), math.inf)
    values = [(min(max(low, least), most), min(max(high, least), most)) for low, high in bound.values]
    return replace(bound, values=tuple(values))


def _scalar(bound: Optional[Bound], default: float) -> float:
    """Return the value of a constant of one element, the default where it is another."""
    if bound is None or len(bound.values) != 1 or bound.values[0][0] != bound.values[0][1]:
        return default
    return bound.values[0][0]


_SAME = (
    "Abs", "BatchNormalization", "CastLike", "Ceil", "DequantizeLinear", "Elu", "Erf", "Exp", "Floor", "HardSigmoid",
    "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Log", "Neg", "Not", "PRelu",
    "QuantizeLinear", "Reciprocal", "Relu", "Round", "Sigmoid", "Softmax", "Softplus", "Split", "Sqrt", "Tanh", "Trilu",
)  # fmt: skip
RULES: Dict[str, Rule] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(("And", "Div", "Max", "Min", "Or", "Pow", "Where"), _broadcast),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), _compare),
    "Add": _arithmetic(lambda left, right: (left[0] + right[0], left[1] + right[1])),
    "Sub": _arithmetic(lambda left, right: (left[0] - right[1], left[1] - right[0])),
    "Mul": _arithmetic(_multiplied),
    "Cast": _cast,
    "Clip": _clip,
}
