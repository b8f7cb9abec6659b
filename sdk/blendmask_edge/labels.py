"""Names and category ids of the classes."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np

from blendmask_edge.arguments.values import is_integer
from blendmask_edge.errors import InstancesError


@dataclass(frozen=True)
class Labels:
    """Names and COCO category ids of the classes; class id 0 is the first.

    Args:
        names: N names of the classes.
        category_ids: N COCO category ids, each once.

    Raises:
        InstancesError: the two differ in length, or a category id is repeated.

    Example:
        >>> from blendmask_edge import Labels
        >>> labels = Labels(names=["mug", "bowl"], category_ids=[47, 51])
        >>> labels.names[1], labels.category_ids[1]
        ('bowl', 51)
    """

    names: Sequence[str]
    category_ids: Sequence[int]

    def __post_init__(self) -> None:
        """Validate the lists."""
        _require_list("names", self.names, lambda name: isinstance(name, str), "a list of texts")
        _require_list("category_ids", self.category_ids, is_id, "a list of integers of at most 64 bits")
        if len(self.names) != len(self.category_ids):
            raise InstancesError(
                f"Labels have {len(self.names)} names and {len(self.category_ids)} category ids; expected as many ids "
                "as names."
            )
        if len(set(self.category_ids)) != len(self.category_ids):
            raise InstancesError(
                f"Labels have a category id twice: {list(self.category_ids)}. Give each class its own."
            )


def _require_list(name: str, values: object, fits: Callable[[Any], bool], expected: str) -> None:
    is_list = isinstance(values, (Sequence, np.ndarray)) and not isinstance(values, (str, bytes))
    if not is_list or not all(fits(value) for value in values):  # type: ignore[attr-defined]
        raise InstancesError(f"{name} is {reprlib.repr(values)}, expected {expected}.")


def is_id(value: object) -> bool:
    """Return whether a value is an integer of at most 64 bits."""
    return is_integer(value, -(2**63))
