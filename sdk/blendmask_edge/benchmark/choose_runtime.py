"""Choose the runtime of a benchmark in a process of its own, so that the others leave no trace in the measured one."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING, Optional, Tuple

from blendmask_edge.bundle.signature import required_pems
from blendmask_edge.execution.worker import start
from blendmask_edge.predictor import MaskPredictor
from blendmask_edge.runtimes.registry import AUTO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.bundle.signature import Keys
    from blendmask_edge.storage.atomic import PathLike

_INTERRUPTED = 130


def choose_runtime(
    bundle: PathLike, threads: Optional[int], variant: Optional[str], image: NDArray[np.uint8]
) -> Tuple[str, str]:
    """Return the runtime and the graph that `runtime="auto"` takes.

    To choose, every installed runtime loads the bundle. Its libraries stay loaded as long as the process, and would
    count as memory of the one that is measured. A signature that is required here is required there as well.

    Args:
        bundle, threads, variant: as `MaskPredictor` takes them.
        image: (H, W, 3) uint8 RGB; the runtimes are timed on it.

    Raises:
        BlendMaskError: as `MaskPredictor`.
    """
    work = (bundle, threads, variant, image, required_pems())
    with ProcessPoolExecutor(1, get_context("spawn"), _start) as pool:
        try:
            return pool.submit(_choose, *work).result()
        except BrokenProcessPool:  # a script without `if __name__ == "__main__"` cannot start processes
            return _choose(*work)


def _start() -> None:
    """Begin as a child process, which ends with its parent, and with Ctrl-C at once and without a word."""
    start(b"")
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))


def _choose(
    bundle: PathLike, threads: Optional[int], variant: Optional[str], image: NDArray[np.uint8], public_key: Keys
) -> Tuple[str, str]:
    with MaskPredictor(bundle, AUTO, threads, 0.0, variant, public_key=public_key) as predictor:
        predictor.warm_up(image=image)
        return predictor.runtime, predictor.variant
