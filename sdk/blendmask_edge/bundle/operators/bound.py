"""Tensors as upper bounds of their sizes, and one use of an operator.

A size is an upper bound, as a graph may compute rows for the detections only, and of integers that become sizes the
range is followed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Mapping, Optional, Sequence, Tuple

from blendmask_edge.bundle.onnx_file import ITEM_BYTES, Attribute, Tensor
from blendmask_edge.errors import BundleError

Shape = Tuple[int, ...]
Interval = Tuple[float, float]
_MOST_VALUES = 16
"""Elements of a list that is followed: two for each axis of the largest rank."""


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
        bound = self.optional(place)
        if bound is None:
            raise ValueError(f"input {place} is missing")
        return bound

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
        ranges = self.ranges(place)
        if any(low != high or low != int(low) for low, high in ranges):
            raise ValueError(f"input {place} is not constant")
        return tuple(int(low) for low, _ in ranges)


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


def joined(first: Shape, second: Shape) -> Shape:
    """Return the shape to which two broadcast."""
    rank = max(len(first), len(second))
    padded = [(1,) * (rank - len(shape)) + shape for shape in (first, second)]
    return tuple(map(max, *padded))


def axis_of(axis: int, rank: int) -> int:
    """Return an axis that may be counted from the end as one that is counted from the start.

    Raises:
        ValueError: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of {rank}")
    return axis % rank


def highest(ranges: Sequence[Interval]) -> Shape:
    """Return the largest sizes within ranges.

    Raises:
        ValueError: a size may be negative.
    """
    if any(low < 0 for low, _ in ranges):
        raise ValueError("a size may be negative")
    return tuple(int(high) for _, high in ranges)
