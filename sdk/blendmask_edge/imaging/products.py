"""Small matrix products that stay on the calling thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_SINGLE_THREAD_PRODUCT = 2**18


def multiply(left: Floats, right: Floats, out: Floats) -> None:
    """Write `left @ right` to `out` on the calling thread.

    OpenBLAS wakes its threads for products above this size; beside a runtime's own threads they wait for each other,
    and a product of 25 microseconds was seen to take 8 milliseconds.
    """
    rows, columns = out.shape
    budget = max(1, _SINGLE_THREAD_PRODUCT // left.shape[1])
    width = min(columns, max(1, budget // min(rows, 16)))
    height = max(1, budget // width)
    for top in range(0, rows, height):
        for start in range(0, columns, width):
            part = slice(top, top + height), slice(start, start + width)
            np.matmul(left[part[0]], right[:, part[1]], out=out[part])
