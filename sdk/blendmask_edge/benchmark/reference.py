"""A fixed amount of arithmetic, run beside each frame: how fast is this machine just now?

A frame's time over the reference's time beside it hardly moves while another process takes a core or a hot processor
slows down, where milliseconds do. It needs numpy only, so that another runtime or bundle leaves it as it is, and it
uses as many threads as the network. That holds best with one thread: among several, a network has far more places
where one waits for the others, so that on a shared machine it loses more than the reference.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Tuple

import numpy as np

VERSION = 1
"""Changes when the work below does: ratios to different work cannot be compared."""

_ROUNDS = 4
_MATRICES, _SIDE = 96, 64
_MAP = (24, 64, 256)


class Reference:
    """The work, to be called; the same on each of `threads` threads.

    Four times 96 products of 64 x 64 float32 matrices, small enough for BLAS to stay on the calling thread, and a
    3 x 3 convolution of a map of 256 channels, each by itself, which is bound by memory. The threads wait for each
    other after each of these eight steps, as those of a runtime do after each layer: beside other processes, a
    thread that has to wait holds up the others in both.
    """

    def __init__(self, threads: int) -> None:
        """Allocate what the work needs, and start the threads beside the calling one."""
        rng = np.random.default_rng(0)
        self._shares = [_Share(rng) for _ in range(threads)]
        self._pool = ThreadPoolExecutor(max(1, threads - 1))

    def __call__(self) -> None:
        """Do the work once on each thread, and return when all are done."""
        for _ in range(_ROUNDS):
            self._on_each_thread(_Share.multiply)
            self._on_each_thread(_Share.convolve)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def __enter__(self) -> Reference:
        """Return the reference itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the threads."""
        self.close()

    def _on_each_thread(self, step: Callable[[_Share], None]) -> None:
        others = [self._pool.submit(step, share) for share in self._shares[1:]]
        step(self._shares[0])
        for other in others:
            other.result()


class _Share:
    """One thread's part, with buffers of its own."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._left = rng.random((_MATRICES, _SIDE, _SIDE), np.float32)
        self._right = rng.random((_MATRICES, _SIDE, _SIDE), np.float32)
        self._product = np.empty_like(self._left)
        height, width, channels = _MAP
        self._map = rng.random((height + 2, width + 2, channels), np.float32)
        self._taps = rng.random((3, 3, channels), np.float32)
        self._term, self._sum = np.empty(_MAP, np.float32), np.empty(_MAP, np.float32)

    def multiply(self) -> None:
        np.matmul(self._left, self._right, out=self._product)

    def convolve(self) -> None:
        self._sum.fill(0)
        for y, x in _TAPS:
            np.multiply(self._map[y : y + _MAP[0], x : x + _MAP[1]], self._taps[y, x], out=self._term)
            np.add(self._sum, self._term, out=self._sum)


_TAPS: Tuple[Tuple[int, int], ...] = tuple((y, x) for y in range(3) for x in range(3))
