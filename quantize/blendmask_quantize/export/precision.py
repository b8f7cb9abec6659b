"""Precision of tensors in the deployable graph."""

from __future__ import annotations

import torch
from torch import Tensor


def as_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` in a precision; without a cast in the graph where it has that precision already."""
    return x if x.dtype == dtype else x.to(dtype)
