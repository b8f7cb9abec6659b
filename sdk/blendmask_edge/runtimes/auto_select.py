"""Selection of the runtime for a bundle: the one that was named, or the quickest on frames as they come."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

from blendmask_edge.errors import BlendMaskError, BundleError, InferenceError, RuntimeUnavailableError
from blendmask_edge.runtimes.choices import Choice, key_of, recall, remember
from blendmask_edge.runtimes.contract import Contract
from blendmask_edge.runtimes.registry import AUTO, RuntimeRow, SessionOptions, installed_rows, select
from blendmask_edge.runtimes.shared import LoadedGraph, SharedSession
from blendmask_edge.runtimes.trial import compare

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.bundle.reader import Bundle

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Candidate:
    row: RuntimeRow
    variant: str

    def load(self, bundle: Bundle, options: SessionOptions) -> LoadedGraph:
        """Load the graph and hold it to the manifest."""
        session = self.row.load().load(bundle.graph(self.variant), options)
        with contextlib.ExitStack() as guard:
            guard.callback(session.close)
            Contract.of(bundle.manifest).check_session(session)
            guard.pop_all()
        return LoadedGraph(self.row.name, self.variant, session)

    def describe(self, bundle: Bundle) -> str:
        return f"{self.row.name} {self.row.version} {bundle.entry(self.variant).sha256}"


def open_session(bundle: Bundle, runtime: str, variant: Optional[str], options: SessionOptions) -> SharedSession:
    """Load a graph of `bundle`.

    With "auto", every runtime that is installed and can run a graph of the bundle loads it. The first of them answers
    until a frame comes that shows instances (see `SharedSession`). On that frame each is timed for about half a second;
    the quickest stays and is remembered in the cache folder for `EXPIRY_DAYS`, as long as the graphs, the versions of
    the runtimes, the processor and the threads are the same: the next predictor loads it alone. Timing waits for such a
    frame because the work of a graph grows with the instances it finds, which are few in noise or a blank image. Where
    only one runtime can, nothing is timed.

    Args:
        bundle: the opened bundle.
        runtime: name of a runtime, or "auto".
        variant: graph to run; None takes the runtime's preferred one that the bundle holds.
        options: what every runtime is asked.

    Raises:
        BundleError: the bundle has no such graph, or none that the runtime runs.
        RuntimeUnavailableError: the runtime is not installed or finds no device; with "auto", none is or does.
        InferenceError: the runtime refuses the graph, or the graph is not as the manifest states; with "auto", all do.
        ConfigError: no runtime has this name.
    """
    candidates = _candidates(bundle, runtime, variant)
    contract = Contract.of(bundle.manifest)
    # To look up versions takes longer than to import this package, and a single candidate needs none.
    key = key_of([each.describe(bundle) for each in candidates], options.threads) if len(candidates) > 1 else ""
    graphs = _load_remembered(bundle, candidates, key, options) or _load_all(bundle, candidates, options)

    def choose(graphs: Sequence[LoadedGraph], image: NDArray[np.uint8]) -> LoadedGraph:
        seconds = compare(graphs, contract, image)
        best = min(graphs, key=lambda graph: seconds.get(graph.runtime, float("inf")))
        _LOG.info("%s: took %s; seconds per run: %s", bundle.path, best.runtime, seconds)
        remember(key, Choice(runtime=best.runtime, seconds=seconds, measured=time.time()))
        return best

    return SharedSession(graphs, contract, choose)


def _candidates(bundle: Bundle, runtime: str, variant: Optional[str]) -> List[_Candidate]:
    if variant is not None:
        bundle.entry(variant)
    if runtime != AUTO:
        row = select(runtime)
        return [_Candidate(row, variant)] if variant else _fitting(bundle, (row,), None)
    fitting = _fitting(bundle, installed_rows(), variant)
    ready = [candidate for candidate in fitting if candidate.row.ready(bundle.entry(candidate.variant).sha256)]
    return ready or fitting[:1]


def _fitting(bundle: Bundle, rows: Tuple[RuntimeRow, ...], variant: Optional[str]) -> List[_Candidate]:
    """Return those of `rows` that run a graph of the bundle, each with its preferred one or with `variant`."""
    candidates: List[_Candidate] = []
    for row in rows:
        wanted = row.variants if variant is None else tuple(name for name in row.variants + row.also if name == variant)
        available = [name for name in wanted if name in bundle.manifest.graphs]
        candidates.extend(_Candidate(row, name) for name in available[:1])
    if candidates:
        return candidates
    runs = "; ".join(f"{row.name} runs {' or '.join(row.variants)}" for row in rows)
    named = sorted({name for row in rows for name in row.also if name in bundle.manifest.graphs})
    hint = f", or name the variant {' or '.join(named)}, which may be slow" if named else ""
    raise BundleError(
        f"{bundle.path} holds the graphs {', '.join(sorted(bundle.manifest.graphs))}; {runs}. "
        f"Build the bundle again{hint}."
    )


def _load_remembered(
    bundle: Bundle, candidates: List[_Candidate], key: str, options: SessionOptions
) -> List[LoadedGraph]:
    choice = recall(key) if len(candidates) > 1 else None
    for candidate in candidates:
        if choice is not None and candidate.row.name == choice.runtime:
            # What worked at the time of the trial may be gone since, such as a device.
            with contextlib.suppress(InferenceError, RuntimeUnavailableError):
                return [candidate.load(bundle, options)]
    return []


def _load_all(bundle: Bundle, candidates: List[_Candidate], options: SessionOptions) -> List[LoadedGraph]:
    """Load every candidate that can be, the preferred one first.

    Raises:
        BlendMaskError: none can.
    """
    if len(candidates) == 1:
        return [candidates[0].load(bundle, options)]
    graphs: List[LoadedGraph] = []
    failures: Dict[str, BlendMaskError] = {}
    for candidate in candidates:
        try:
            graphs.append(candidate.load(bundle, options))
        except BundleError:
            for graph in graphs:
                graph.session.close()
            raise
        except BlendMaskError as error:
            failures[candidate.row.name] = error
            _LOG.warning("%s is installed but left out: %s", candidate.row.name, error)
    if not graphs:
        raise _all_failed(bundle, failures)
    return graphs


def _all_failed(bundle: Bundle, failures: Dict[str, BlendMaskError]) -> BlendMaskError:
    reasons = " ".join(f"{name}: {error}" for name, error in failures.items())
    if all(isinstance(error, RuntimeUnavailableError) for error in failures.values()):
        return RuntimeUnavailableError(f"No installed runtime can start for {bundle.path}. {reasons}")
    return InferenceError(f"No installed runtime runs {bundle.path}. {reasons}")
