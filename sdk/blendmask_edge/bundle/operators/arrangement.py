"""Operators that choose, repeat, join or reorder elements, or reduce them along axes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Dict, List, Sequence, Tuple

from blendmask_edge.bundle.onnx_file import Tensor
from blendmask_edge.bundle.operators.bound import (
    Bound,
    Call,
    Interval,
    Rule,
    Shape,
    axis_of,
    check_tensor,
    constant,
    highest,
    joined,
)


def _constant(call: Call) -> Bound:
    tensor = call.attributes.get("value")
    if len(call.attributes) != 1 or not isinstance(tensor, Tensor):
        raise ValueError("it has no tensor as its value")
    check_tensor(tensor)
    return constant(tensor)


def _concat(call: Call) -> Bound:
    bounds = [call.input(place) for place in range(len(call.inputs))]
    axis = axis_of(call.integer("axis"), len(bounds[0].shape))
    shape = list(bounds[0].shape)
    for bound in bounds:
        if len(bound.shape) != len(shape):
            raise ValueError("ranks differ")
        shape = [max(pair) for pair in zip(shape, bound.shape)]
    shape[axis] = sum(bound.shape[axis] for bound in bounds)
    is_exact = all(bound.is_exact for bound in bounds)
    is_list = len(shape) == 1 and is_exact and all(len(bound.values) == bound.count for bound in bounds)
    values = tuple(value for bound in bounds for value in bound.values) if is_list else ()
    return Bound(tuple(shape), values, is_exact)


def _expand(call: Call) -> Bound:
    return Bound(joined(call.input(0).shape, highest(call.ranges(1))))


def _tile(call: Call) -> Bound:
    shape, repeats = call.input(0).shape, highest(call.ranges(1))
    if len(shape) != len(repeats):
        raise ValueError("it repeats along other axes than there are")
    return Bound(tuple(size * count for size, count in zip(shape, repeats)))


def _gather(call: Call) -> Bound:
    bound, index = call.input(0), call.input(1)
    axis = axis_of(call.integer("axis"), len(bound.shape))
    shape = bound.shape[:axis] + index.shape + bound.shape[axis + 1 :]
    return Bound(shape, _hull(bound.values), bound.is_exact and index.is_exact)


def _hull(values: Sequence[Interval]) -> Tuple[Interval, ...]:
    """Return one range that holds all of them."""
    if not values:
        return ()
    return ((min(low for low, _ in values), max(high for _, high in values)),)


def _gather_nd(call: Call) -> Bound:
    shape, index = call.input(0).shape, call.input(1)
    if not index.is_exact:
        raise ValueError("the number of its places is not known before it runs")
    batch = call.integer("batch_dims")
    if not 0 <= batch < len(index.shape):
        raise ValueError(f"batch_dims {batch}")
    return Bound(index.shape[:-1] + shape[batch + index.shape[-1] :])


def _reduce(call: Call) -> Bound:
    bound = call.input(0)
    rank, axes = len(bound.shape), call.integers("axes")
    if call.optional(1) is not None:
        axes = call.constants(1)
    if not axes and call.integer("noop_with_empty_axes"):
        return replace(bound, values=())
    gone = {axis_of(axis, rank) for axis in axes} if axes else set(range(rank))
    shape = _without(bound.shape, gone, keep=bool(call.integer("keepdims", 1)))
    return Bound(shape, is_exact=bound.is_exact or len(gone) == rank)


def _reduce_sum(call: Call) -> Bound:
    """As `_reduce`, and follows the count of what is true."""
    bound, result = call.input(0), _reduce(call)
    if len(bound.values) != 1 or bound.values[0] != (0, 1):
        return result
    return replace(result, values=((0, bound.count),))


def _without(shape: Shape, gone: Any, keep: bool = False) -> Shape:
    if keep:
        return tuple(1 if axis in gone else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


def _reshape(call: Call) -> Bound:
    bound, wanted = call.input(0), call.ranges(1)
    count, zero_copies = bound.count, not call.integer("allowzero")
    shape: List[int] = []
    for axis, (low, high) in enumerate(wanted):
        if low == high == 0 and zero_copies:
            shape.append(bound.shape[axis])
        elif low == high == -1:
            known = math.prod(max(int(other), 1) for other, _ in wanted)
            shape.append(count // known)
        elif low < 0:
            raise ValueError("a size may be negative")
        else:
            shape.append(int(high))
    is_exact = bound.is_exact and all(low == high for low, high in wanted)
    return Bound(tuple(shape), bound.values, is_exact)


def _slice(call: Call) -> Bound:
    bound = call.input(0)
    starts, ends = call.ranges(1), call.ranges(2)
    rank = len(bound.shape)
    axes = call.constants(3) if call.optional(3) is not None else tuple(range(len(starts)))
    steps = call.constants(4) if call.optional(4) is not None else (1,) * len(starts)
    shape = list(bound.shape)
    for axis, (start, _), (_, end), step in zip(axes, starts, ends, steps):
        place = axis_of(axis, rank)
        if start >= 0 and end >= 0 and step > 0:
            length = max(int(min(end, shape[place])) - int(start), 0)
            shape[place] = -(-length // step)
    return Bound(tuple(shape))


def _squeeze(call: Call) -> Bound:
    bound = call.input(0)
    axes = {axis_of(axis, len(bound.shape)) for axis in call.constants(1)}
    return Bound(_without(bound.shape, axes), bound.values, bound.is_exact)


def _unsqueeze(call: Call) -> Bound:
    bound, axes = call.input(0), call.constants(1)
    rank = len(bound.shape) + len(axes)
    shape = list(bound.shape)
    for axis in sorted(axis_of(axis, rank) for axis in axes):
        shape.insert(axis, 1)
    return Bound(tuple(shape), bound.values, bound.is_exact)


def _top_k(call: Call) -> Bound:
    shape = list(call.input(0).shape)
    (count,) = highest(call.ranges(1))
    axis = axis_of(call.integer("axis", -1), len(shape))
    shape[axis] = min(shape[axis], count)
    return Bound(tuple(shape))


def _transpose(call: Call) -> Bound:
    shape = call.input(0).shape
    order = call.integers("perm", tuple(reversed(range(len(shape)))))
    if sorted(order) != list(range(len(shape))):
        raise ValueError("perm is not an order of the axes")
    return Bound(tuple(shape[axis] for axis in order))


def _flatten(call: Call) -> Bound:
    shape = call.input(0).shape
    axis = call.integer("axis", 1) % (len(shape) + 1)
    return Bound((math.prod(shape[:axis]), math.prod(shape[axis:])))


def _pad(call: Call) -> Bound:
    shape, pads = call.input(0).shape, call.constants(1)
    if len(pads) != 2 * len(shape):
        raise ValueError("pads do not have two numbers an axis")
    pairs = zip(shape, pads, pads[len(shape) :])
    return Bound(tuple(max(size + begin + end, 0) for size, begin, end in pairs))


RULES: Dict[str, Rule] = {
    "Concat": _concat,
    "Constant": _constant,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceSum": _reduce_sum,
    "Reshape": _reshape,
    "Shape": lambda call: Bound((len(call.input(0).shape),)),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
