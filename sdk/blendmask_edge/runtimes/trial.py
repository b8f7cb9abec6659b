"""The trial that `auto` makes: how long each loaded graph takes for one frame on this machine."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Callable, Dict, Sequence

from blendmask_edge.errors import BlendMaskError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.runtimes.base import Session
    from blendmask_edge.runtimes.contract import Contract
    from blendmask_edge.runtimes.shared import LoadedGraph

WARM_UP_RUNS = 2
LEAST_RUNS = 3
MOST_RUNS = 10
ENOUGH_SECONDS = 0.5
_LOG = logging.getLogger(__name__)


def compare(graphs: Sequence[LoadedGraph], contract: Contract, image: NDArray[np.uint8]) -> Dict[str, float]:
    """Return the seconds of one run on `image`, uint8 [1, H, W, 3], by name of runtime.

    A runtime that fails, or returns arrays that `contract` refuses, is left out.
    """
    seconds: Dict[str, float] = {}
    for graph in graphs:
        try:
            contract.check_outputs(graph.session.run(image))
            seconds[graph.runtime] = measure(graph.session, image)
        except BlendMaskError as error:
            _LOG.warning("%s is left out: %s", graph.runtime, error)
    return seconds


def measure(session: Session, image: NDArray[np.uint8], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of the quickest of a few runs on `image`, uint8 [1, H, W, 3], after a warm-up.

    It is the quickest because whatever disturbs a run only makes it slower. There are at least `LEAST_RUNS`, and no
    more than `MOST_RUNS` or than begin within `ENOUGH_SECONDS`.

    Raises:
        InferenceError: the graph does not run.
    """
    for _ in range(WARM_UP_RUNS):
        session.run(image)
    quickest, runs, start = float("inf"), 0, clock()
    while runs < LEAST_RUNS or (runs < MOST_RUNS and clock() - start < ENOUGH_SECONDS):
        begin = clock()
        session.run(image)
        quickest, runs = min(quickest, clock() - begin), runs + 1
    return quickest
