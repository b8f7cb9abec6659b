"""Convolutions, pooling, products of matrices and resizing."""

from __future__ import annotations

import math
from typing import Dict, List, Sequence

from blendmask_edge.bundle.operators.bound import Bound, Call, Rule, Shape, joined


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
        raise ValueError("a factor is not a matrix")
    return Bound((*joined(left[:-2], right[:-2]), left[-2], right[-1]))


def _gemm(call: Call) -> Bound:
    (left, right) = (call.input(place).shape for place in (0, 1))
    rows = left[1] if call.integer("transA") else left[0]
    columns = right[0] if call.integer("transB") else right[1]
    return Bound((rows, columns))


def _resize(call: Call) -> Bound:
    shape = call.input(0).shape
    scales, sizes = call.optional(2), call.optional(3)
    if scales is not None and scales.count:
        factors = [high for _, high in call.ranges(2)]
        target = tuple(math.ceil(size * factor) for size, factor in zip(shape, factors))
    elif sizes is not None:
        target = call.constants(3)
    else:
        raise ValueError("it has neither scales nor sizes")
    if len(target) != len(shape) or min(target, default=0) < 0:
        raise ValueError("scales or sizes do not have one number an axis")
    return Bound(target)


RULES: Dict[str, Rule] = {
    "AveragePool": _pool,
    "Conv": _conv,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Resize": _resize,
}
