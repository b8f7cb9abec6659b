"""The trial that `auto` makes: how long each loaded graph takes for one frame on this machine."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Callable, Dict, Iterator, Sequence

from blendmask_edge.errors import BlendMaskError
from blendmask_edge.hardware.timing import WARM_UP, read_in_turn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.runtimes.base import Session
    from blendmask_edge.runtimes.contract import Contract
    from blendmask_edge.runtimes.shared import LoadedGraph

LEAST_TURNS = 3
MOST_TURNS = 10
ENOUGH_SECONDS = 0.5
"""For each graph, after which no turn begins."""
_LOG = logging.getLogger(__name__)


def compare(
    graphs: Sequence[LoadedGraph],
    contract: Contract,
    image: NDArray[np.uint8],
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Dict[str, float]:
    """Return the median seconds of a run on `image`, uint8 [1, H, W, 3], by name of runtime.

    A runtime that fails, or returns arrays that `contract` refuses, is left out.

    Args:
        graphs: loaded.
        contract: of the bundle.
        image: on which they are compared.
        clock: seconds.
        sleep: waits for seconds.
    """
    sound = {graph.runtime: graph.session for graph in graphs if _runs(graph, contract, image)}
    timers = {runtime: _timer(runtime, session, image, clock) for runtime, session in sound.items()}
    times = read_in_turn(timers, _turns(len(sound), clock), sleep=sleep)
    import statistics  # a predictor of one runtime does without, and opens sooner

    medians = {runtime: statistics.median(seconds) for runtime, seconds in times.items()}
    return {runtime: seconds for runtime, seconds in medians.items() if math.isfinite(seconds)}


def _runs(graph: LoadedGraph, contract: Contract, image: NDArray[np.uint8]) -> bool:
    try:
        contract.check_outputs(graph.session.run(image))
    except BlendMaskError as error:
        _LOG.warning("%s is left out: %s", graph.runtime, error)
        return False
    return True


def _timer(
    runtime: str, session: Session, image: NDArray[np.uint8], clock: Callable[[], float]
) -> Callable[[int], float]:
    def seconds(_: int) -> float:
        start = clock()
        try:
            session.run(image)
        except BlendMaskError as error:
            _LOG.warning("%s failed while it was timed: %s", runtime, error)
            return math.inf
        return clock() - start

    return seconds


def _turns(graphs: int, clock: Callable[[], float]) -> Iterator[int]:
    """Give the turn that warms up, then `LEAST_TURNS` to `MOST_TURNS`, none of which begins late."""
    yield WARM_UP
    end = clock() + ENOUGH_SECONDS * graphs
    for turn in range(MOST_TURNS):
        if turn >= LEAST_TURNS and clock() >= end:
            return
        yield turn
