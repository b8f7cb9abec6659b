"""One loaded graph for all threads of a program: calls wait for each other, and their arrays are checked."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional, Sequence, Set

from blendmask_edge.errors import ClosedError, InferenceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.bundle.tensors import Outputs
    from blendmask_edge.runtimes.base import Session
    from blendmask_edge.runtimes.contract import Contract

TYPICAL_SCORE = 0.3
PATIENCE = 100
_LOG = logging.getLogger(__name__)


_OPEN: weakref.WeakSet[SharedSession] = weakref.WeakSet()
_OF_THE_PARENT: List[LoadedGraph] = []
"""Graphs that a fork has from its parent. Their threads stayed there: releasing one waits for them, or crashes."""


class LoadedGraph(NamedTuple):
    """A loaded graph: name of its runtime, variant of the graph, the session."""

    runtime: str
    variant: str
    session: Session


Choose = Callable[[Sequence[LoadedGraph], "NDArray[np.uint8]"], LoadedGraph]


class SharedSession:
    """One graph, or several of which one is chosen on a frame that is typical; any thread may call any method.

    Runtimes keep one set of buffers for a loaded graph, so that of two calls at a time each may get the other's
    result. Here a call waits for the one before it. `close` waits, too; called by a signal handler in the midst of a
    run, it takes effect after that run.

    Of several graphs the first answers until a typical frame comes: one with an instance of score `TYPICAL_SCORE`, or
    the frame number `PATIENCE`. `choose` picks one on it; the rest are closed.

    A fork of the process has the memory of the runtimes, and none of their threads. There, a session of the parent
    refuses to run and releases nothing.
    """

    def __init__(self, graphs: Sequence[LoadedGraph], contract: Contract, choose: Choose) -> None:
        """Take loaded graphs that have been checked, and own them from here on.

        Args:
            graphs: one or more, the preferred one first.
            contract: checked against the arrays of each run.
            choose: returns the best of the graphs for frames such as the image that it is given.
        """
        self._lock = threading.RLock()
        self._graphs: List[LoadedGraph] = list(graphs)
        self._current = self._graphs[0]
        self._contract = contract
        self._choose = choose
        self._frames = 0
        self._is_running = False
        self._is_closed = False
        self._is_forked = False
        _OPEN.add(self)

    @property
    def runtime(self) -> str:
        """Name of the runtime in use."""
        return self._current.runtime

    @property
    def variant(self) -> str:
        """Name of the graph in use."""
        return self._current.variant

    def run(self, image: NDArray[np.uint8], is_typical: bool = False) -> Outputs:
        """Run the graph on one preprocessed image.

        Args:
            image: uint8 [1, H, W, 3].
            is_typical: whether to choose among several graphs on this image, whatever it shows.

        Raises:
            InferenceError: the runtime failed, or gave arrays that are not those of the manifest.
            ClosedError: the session was closed, or opened before this process was forked.
        """
        with self._lock:
            if self._is_forked:
                raise ClosedError(
                    "The predictor was opened in the parent of this process, and runtimes do not survive a fork. "
                    "Open a MaskPredictor in each process, or start processes by `spawn`, which opens it anew there."
                )
            if self._is_closed:
                raise ClosedError("The predictor is closed; open a new MaskPredictor.")
            if self._is_running:  # the lock is this thread's own, so a signal handler has interrupted a run
                raise InferenceError("A signal handler cannot predict while a prediction runs in the same thread.")
            self._is_running = True
            try:
                return self._answer(image, is_typical)
            finally:
                self._is_running = False
                if self._is_closed:
                    self._release()

    def close(self) -> None:
        """Release all graphs, after the run that another thread is in; closing twice does no harm."""
        with self._lock:
            self._is_closed = True
            if not self._is_running:
                self._release()

    def abandon(self) -> None:
        """Let go of the graphs of a parent, in a fork of it, without releasing them; no other thread runs here."""
        _OF_THE_PARENT.extend(self._graphs)
        self._graphs, self._is_forked = [], True
        self._lock = threading.RLock()  # the other may be held by a thread of the parent, for good

    def _answer(self, image: NDArray[np.uint8], is_typical: bool) -> Outputs:
        outputs = self._run_current(image)
        self._frames += 1
        is_typical |= bool(outputs.scores.max(initial=0) >= TYPICAL_SCORE) or self._frames >= PATIENCE
        if len(self._graphs) > 1 and is_typical:
            self._keep(self._choose(self._graphs, image))
        return outputs

    def _run_current(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the current graph; where it fails and others are left, close it and go on with the next."""
        while True:
            try:
                outputs = self._current.session.run(image)
                self._contract.check_outputs(outputs)
                return outputs
            except InferenceError as error:
                if len(self._graphs) == 1:
                    raise
                _LOG.warning("%s is left out: %s", self._current.runtime, error)
                self._keep(*self._graphs[1:])

    def _keep(self, *graphs: LoadedGraph) -> None:
        for graph in self._graphs:
            if graph not in graphs:
                graph.session.close()
        self._graphs, self._current = list(graphs), graphs[0]

    def _release(self) -> None:
        for graph in self._graphs:
            graph.session.close()
        self._graphs = []


class SessionLease:
    """A session in the hands of one of its users; the last one that closes releases it."""

    def __init__(self, session: SharedSession, leases: Optional[Set[object]] = None) -> None:
        """Take part in a session.

        Args:
            session: the session.
            leases: marks of all that use it, to which this one is added; None for a session of its own.
        """
        self._session = session
        self._leases: Set[object] = set() if leases is None else leases
        self._mark = object()
        self._leases.add(self._mark)

    @property
    def runtime(self) -> str:
        """Name of the runtime in use."""
        return self._session.runtime

    @property
    def variant(self) -> str:
        """Name of the graph in use."""
        return self._session.variant

    def share(self) -> SessionLease:
        """Return another lease of the session.

        Raises:
            ClosedError: this one is closed.
        """
        self._require_open()
        return SessionLease(self._session, self._leases)

    def run(self, image: NDArray[np.uint8], is_typical: bool = False) -> Outputs:
        """Run the graph on one preprocessed image; see `SharedSession.run`."""
        self._require_open()
        return self._session.run(image, is_typical)

    def close(self) -> None:
        """Give up the lease; the last one waits for a running call and releases the session. Can be repeated."""
        self._leases.discard(self._mark)
        if not self._leases:
            self._session.close()

    def _require_open(self) -> None:
        if self._mark not in self._leases:
            raise ClosedError("The predictor is closed; open a new MaskPredictor.")


def _abandon_all() -> None:
    for session in list(_OPEN):
        session.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
