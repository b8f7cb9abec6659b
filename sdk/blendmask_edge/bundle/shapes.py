"""How large the result of each operator can get, from the sizes of what it reads: ONNX opsets 13 to 17.

The keys of `RULES` are the operators that a graph in a bundle may have. A size is an upper bound, as a graph may
compute rows for the detections only, and of integers that become sizes the range is followed.
https://onnx.ai/onnx/operators
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from blendmask_edge.bundle.onnx_file import INT32, INT64, ITEM_BYTES, Attribute, Tensor
from blendmask_edge.errors import BundleError

Shape = Tuple[int, ...]
Interval = Tuple[float, float]
_MOST_VALUES = 16
"""Elements of a list that is followed: two for each axis of the largest rank."""
_LARGEST_EXACT = 2**31
"""Beyond it sums and products are not followed, as integers of a runtime may wrap around."""


@dataclass(frozen=True)
class Bound:
    """A tensor: upper bounds of its sizes, and what is known of its elements.

    values: ranges (lowest, highest) of the elements in order; one range holds for all of them, none says nothing.
    is_exact: whether the sizes are known exactly.
    """

    shape: Shape
    values: Tuple[Interval, ...] = ()
    is_exact: bool = False

    @property
    def count(self) -> int:
        """Upper bound of the number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Call:
    """One use of an operator: what it reads, None for an input that is left out, and its attributes."""

    inputs: Sequence[Optional[Bound]]
    attributes: Mapping[str, Attribute]

    def input(self, place: int) -> Bound:
        """Return an input.

        Raises:
            ValueError: it is left out.
        """
        found = self.optional(place)
        if found is None:
            raise ValueError(f"input {place} is missing")
        return found

    def optional(self, place: int) -> Optional[Bound]:
        """Return an input, None if it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def integer(self, name: str, default: int = 0) -> int:
        """Return an attribute that is an integer."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise TypeError(f"{name} is not an integer")
        return value

    def integers(self, name: str, default: Tuple[int, ...] = ()) -> Tuple[int, ...]:
        """Return an attribute that is a list of integers."""
        value = self.attributes.get(name, default)
        if not isinstance(value, tuple) or not all(isinstance(number, int) for number in value):
            raise TypeError(f"{name} is not a list of integers")
        return value  # type: ignore[return-value]

    def ranges(self, place: int) -> Tuple[Interval, ...]:
        """Return the ranges of the elements of a short list that is an input.

        Raises:
            ValueError: nothing is known of them.
        """
        bound = self.input(place)
        if not bound.is_exact or len(bound.values) != bound.count:
            raise ValueError(f"its size depends on input {place}, which is not known before it runs")
        return bound.values

    def constants(self, place: int) -> Tuple[int, ...]:
        """Return the elements of a short list of integers that is an input.

        Raises:
            ValueError: they are not known exactly.
        """
        found = self.ranges(place)
        if any(low != high or low != int(low) for low, high in found):
            raise ValueError(f"input {place} is not constant")
        return tuple(int(low) for low, _ in found)


Rule = Callable[[Call], Bound]


def check_tensor(tensor: Tensor) -> None:
    """Check that a tensor of the file holds what it states.

    Raises:
        BundleError: it is of a type that exported graphs do not have, or does not hold what its shape states.
    """
    if tensor.dtype not in ITEM_BYTES or min(tensor.shape, default=0) < 0 or tensor.count != tensor.stored:
        raise BundleError(f"the tensor {tensor.name[:80]!r} does not hold the values that its type and shape state")


def constant(tensor: Tensor) -> Bound:
    """Return the bound of a tensor that `check_tensor` takes; elements of a short one are exact."""
    values: Tuple[Interval, ...] = ()
    if tensor.count <= _MOST_VALUES:
        numbers = tensor.values()
        if all(math.isfinite(number) for number in numbers):
            values = tuple((number, number) for number in numbers)
    return Bound(tensor.shape, values, is_exact=True)


def work(operator: str, call: Call, result: Bound) -> int:
    """Return an upper bound of the multiply-accumulates, or of the elements where there are more."""
    each = 1
    if operator == "Conv":
        each = math.prod(call.input(1).shape[1:])
    elif operator == "MatMul":
        each = call.input(0).shape[-1]
    elif operator == "Gemm":
        each = max(call.input(0).shape)
    elif operator.endswith("Pool"):
        each = math.prod(call.integers("kernel_shape")) or 1
    return max(result.count * each, *(bound.count for bound in call.inputs if bound is not None), 0)


def scratch(operator: str, call: Call, result: Bound) -> int:
    """Return an upper bound of the elements that a runtime may lay out for an operator beside its result.

    Runtimes compute a convolution as a product of matrices, for which they copy each window of the image.
    """
    if operator != "Conv":
        return 0
    return math.prod(call.input(1).shape[1:]) * math.prod(result.shape[2:])


def _same(call: Call) -> Bound:
    return replace(call.input(0), values=())


def _broadcast(call: Call) -> Bound:
    bounds = [call.input(place) for place in range(len(call.inputs))]
    shape: Shape = ()
    for bound in bounds:
        shape = _joined(shape, bound.shape)
    return Bound(shape, is_exact=all(bound.is_exact for bound in bounds))


def _joined(first: Shape, second: Shape) -> Shape:
    rank = max(len(first), len(second))
    padded = [(1,) * (rank - len(shape)) + shape for shape in (first, second)]
    return tuple(map(max, *padded))


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


def _constant(call: Call) -> Bound:
    tensor = call.attributes.get("value")
    if len(call.attributes) != 1 or not isinstance(tensor, Tensor):
        raise ValueError("it has no tensor as its value")
    check_tensor(tensor)
    return constant(tensor)


def _concat(call: Call) -> Bound:
    bounds = [call.input(place) for place in range(len(call.inputs))]
    axis = _axis(call.integer("axis"), len(bounds[0].shape))
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


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of {rank}")
    return axis % rank


def _conv(call: Call) -> Bound:
    image, weight = call.input(0).shape, call.input(1).shape
    sizes = _windows(call, image[2:], weight[2:])
    return Bound((image[0], weight[0], *sizes))


def _pool(call: Call) -> Bound:
    image = call.input(0).shape
    return Bound((*image[:2], *_windows(call, image[2:], call.integers("kernel_shape"))))


def _windows(call: Call, sizes: Shape, kernel: Sequence[int]) -> List[int]:
    """Return upper bounds of how many windows fit along each axis."""
    axes = len(sizes)
    strides = call.integers("strides", (1,) * axes)
    dilations = call.integers("dilations", (1,) * axes)
    pads = call.integers("pads", (0,) * 2 * axes)
    if not len(kernel) == len(strides) == len(dilations) == axes or len(pads) != 2 * axes:
        raise ValueError("attributes do not have one number an axis")
    if min((*strides, *dilations, *kernel), default=1) < 1 or min(pads, default=0) < 0:
        raise ValueError("kernel, stride or dilation below 1, or a negative pad")
    is_same = call.attributes.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER")
    counts = []
    for axis, size in enumerate(sizes):
        reach = dilations[axis] * (kernel[axis] - 1)
        room = size - 1 if is_same else size + pads[axis] + pads[axis + axes] - 1 - reach
        counts.append(max(-(-room // strides[axis]) + 1, 0))  # rounded up, as pooling may
    return counts


def _global_pool(call: Call) -> Bound:
    image = call.input(0).shape
    return Bound(image[:2] + (1,) * (len(image) - 2))


def _matmul(call: Call) -> Bound:
    left, right = call.input(0).shape, call.input(1).shape
    if min(len(left), len(right)) < 2:
        raise ValueError("a factor is no matrix")
    return Bound((*_joined(left[:-2], right[:-2]), left[-2], right[-1]))


def _gemm(call: Call) -> Bound:
    (left, right) = (call.input(place).shape for place in (0, 1))
    rows = left[1] if call.integer("transA") else left[0]
    columns = right[0] if call.integer("transB") else right[1]
    return Bound((rows, columns))


def _expand(call: Call) -> Bound:
    return Bound(_joined(call.input(0).shape, _highest(call.ranges(1))))


def _highest(ranges: Sequence[Interval]) -> Shape:
    if any(low < 0 for low, _ in ranges):
        raise ValueError("a size may be negative")
    return tuple(int(high) for _, high in ranges)


def _tile(call: Call) -> Bound:
    shape, repeats = call.input(0).shape, _highest(call.ranges(1))
    if len(shape) != len(repeats):
        raise ValueError("it repeats along other axes than there are")
    return Bound(tuple(size * count for size, count in zip(shape, repeats)))


def _gather(call: Call) -> Bound:
    bound, index = call.input(0), call.input(1)
    axis = _axis(call.integer("axis"), len(bound.shape))
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
    gone = {_axis(axis, rank) for axis in axes} if axes else set(range(rank))
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


def _resize(call: Call) -> Bound:
    shape = call.input(0).shape
    scales, sizes = call.optional(2), call.optional(3)
    if scales is not None and scales.count:
        factors = [high for _, high in call.ranges(2)]
        found = tuple(math.ceil(size * factor) for size, factor in zip(shape, factors))
    elif sizes is not None:
        found = call.constants(3)
    else:
        raise ValueError("it has neither scales nor sizes")
    if len(found) != len(shape) or min(found, default=0) < 0:
        raise ValueError("scales or sizes do not have one number an axis")
    return Bound(found)


def _slice(call: Call) -> Bound:
    bound = call.input(0)
    starts, ends = call.ranges(1), call.ranges(2)
    rank = len(bound.shape)
    axes = call.constants(3) if call.optional(3) is not None else tuple(range(len(starts)))
    steps = call.constants(4) if call.optional(4) is not None else (1,) * len(starts)
    shape = list(bound.shape)
    for axis, (start, _), (_, end), step in zip(axes, starts, ends, steps):
        place = _axis(axis, rank)
        if start >= 0 and end >= 0 and step > 0:
            length = max(int(min(end, shape[place])) - int(start), 0)
            shape[place] = -(-length // step)
    return Bound(tuple(shape))


def _squeeze(call: Call) -> Bound:
    bound = call.input(0)
    axes = {_axis(axis, len(bound.shape)) for axis in call.constants(1)}
    return Bound(_without(bound.shape, axes), bound.values, bound.is_exact)


def _unsqueeze(call: Call) -> Bound:
    bound, axes = call.input(0), call.constants(1)
    rank = len(bound.shape) + len(axes)
    shape = list(bound.shape)
    for axis in sorted(_axis(axis, rank) for axis in axes):
        shape.insert(axis, 1)
    return Bound(tuple(shape), bound.values, bound.is_exact)


def _top_k(call: Call) -> Bound:
    shape = list(call.input(0).shape)
    (count,) = _highest(call.ranges(1))
    axis = _axis(call.integer("axis", -1), len(shape))
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


EXPORTED: Dict[str, Rule] = {
    "Abs": _same,
    "CastLike": _same,
    "DequantizeLinear": _same,
    "Exp": _same,
    "InstanceNormalization": _same,
    "QuantizeLinear": _same,
    "Relu": _same,
    "Sigmoid": _same,
    "Sqrt": _same,
    "Trilu": _same,
    "And": _broadcast,
    "Div": _broadcast,
    "Max": _broadcast,
    "Min": _broadcast,
    "Where": _broadcast,
    "Equal": _compare,
    "Greater": _compare,
    "GreaterOrEqual": _compare,
    "LessOrEqual": _compare,
    "Add": _arithmetic(lambda left, right: (left[0] + right[0], left[1] + right[1])),
    "Sub": _arithmetic(lambda left, right: (left[0] - right[1], left[1] - right[0])),
    "Mul": _arithmetic(_multiplied),
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Expand": _expand,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "ReduceMax": _reduce,
    "ReduceSum": _reduce_sum,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""What our exporter writes for its own networks."""
PLAIN: Dict[str, Rule] = {
    "BatchNormalization": _same,
    "Ceil": _same,
    "Elu": _same,
    "Erf": _same,
    "Floor": _same,
    "HardSigmoid": _same,
    "HardSwish": _same,
    "Identity": _same,
    "LayerNormalization": _same,
    "LeakyRelu": _same,
    "Log": _same,
    "Neg": _same,
    "Not": _same,
    "PRelu": _same,
    "Reciprocal": _same,
    "Round": _same,
    "Softmax": _same,
    "Softplus": _same,
    "Tanh": _same,
    "Or": _broadcast,
    "Pow": _broadcast,
    "AveragePool": _pool,
    "Constant": _constant,
    "Flatten": _flatten,
    "GlobalMaxPool": _global_pool,
    "Less": _compare,
    "Pad": _pad,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "Shape": lambda call: Bound((len(call.input(0).shape),)),
    "Split": _same,
}
"""What it may write for a backbone that a user registered: activations, normalizations, pooling, arithmetic."""
RULES: Dict[str, Rule] = {**EXPORTED, **PLAIN}
