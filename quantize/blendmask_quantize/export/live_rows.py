"""Numbers of rows that depend on the image, for graphs whose shapes may: rows that hold a detection come first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 64


def scored(score: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Drop candidates that score 0, in blocks; of scores in descending order, and what belongs to them."""
    rows = in_blocks(score, BLOCK)
    return tuple(part[:rows] for part in (score, *others))


def in_blocks(values: Tensor, least: int) -> Any:
    """How many rows hold all values above 0, which come first; in blocks, so that few sizes occur: runtimes prepare for
    each that is new."""
    least = min(least, len(values))
    rows: Any = ((values[::BLOCK] > 0).sum() * BLOCK).clamp(min=least, max=len(values)).item()
    torch._check(rows >= least)
    torch._check(rows <= len(values))
    return rows


def count_scored(score: Tensor, least: int, most: int) -> Any:
    """How many scores are above 0, within bounds."""
    count: Any = (score > 0).sum().clamp(min=least, max=most).item()
    torch._check(count >= least)
    torch._check(count <= most)
    torch._check(count <= score.shape[0])
    return count
