"""A number is a number of Python or NumPy, finite and in its range; everything else is one message."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from blendmask_edge import ConfigError
from blendmask_edge.arguments.values import check_number, is_integer, is_number


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(1), Fraction(1, 2)])
def test_numbers_of_python_and_numpy_are_numbers(value: Any) -> None:
    assert is_number(value, 0, 1)
    assert check_number("share", value, 0, 1) == float(value)
    assert type(check_number("share", value, 0, 1)) is float


@pytest.mark.parametrize(
    "value",
    [True, np.bool_(True), None, "0.5", b"1", [0.5], -0.1, 1.1, float("nan"), float("inf"), 10**400, Decimal(1)],
)
def test_anything_else_is_refused_by_name_and_range(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^share is .*, expected a number from 0 to 1\.$"):
        check_number("share", value, 0, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_number_without_a_range_is_finite(value: Any) -> None:
    assert not is_number(value)


@pytest.mark.parametrize(("value", "fits"), [(3, True), (np.int32(3), True), (3.0, False), (True, False), (0, False)])
def test_integers_are_whole_numbers_in_a_range(value: Any, fits: bool) -> None:
    assert is_integer(value, 1, 3) is fits
