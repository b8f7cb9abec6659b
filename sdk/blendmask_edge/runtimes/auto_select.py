"""Which runtime runs a bundle: the one that was named, or the quickest of those that can, measured once."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from blendmask_edge.errors import BlendMaskError, BundleError, InferenceError, RuntimeUnavailableError
from blendmask_edge.runtimes.registry import AUTO, RuntimeRow, Session, SessionOptions, installed_rows, select
from blendmask_edge.runtimes.remembered import Choice, key_of, recall, remember
from blendmask_edge.runtimes.trial import measure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.bundle.manifest import InputSpec
    from blendmask_edge.bundle.reader import Bundle

_LOG = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A loaded graph: name of its runtime, variant of the graph, the session."""

    runtime: str
    variant: str
    session: Session


@dataclass(frozen=True)
class _Candidate:
    row: RuntimeRow
    variant: str

    def open(self, graph: bytes, options: SessionOptions) -> Opened:
        return Opened(self.row.name, self.variant, self.row.load().load(graph, options))

    def describe(self, bundle: Bundle) -> str:
        return f"{self.row.name} {self.row.version} {bundle.entry(self.variant).sha256}"


def open_session(bundle: Bundle, runtime: str, variant: Optional[str], options: SessionOptions) -> Opened:
    """Load a graph of `bundle`.

    With "auto", the runtimes that are installed and can run a graph of the bundle each load it and run a few times on
    noise of the input's size. The quickest is taken and remembered in the cache folder for these graphs, versions,
    processor and threads, so that the next call goes straight to it. Where only one can, nothing is measured.

    Args:
        bundle: the opened bundle.
        runtime: name of a runtime, or "auto".
        variant: graph to run; None takes the runtime's preferred one that the bundle holds.
        options: what every runtime is asked.

    Raises:
        BundleError: the bundle has no such graph, or none that the runtime runs.
        RuntimeUnavailableError: the runtime is not installed or finds no device; with "auto", none is or does.
        InferenceError: the runtime refuses the graph; with "auto", all do.
        ConfigError: no runtime has this name.
    """
    candidates = _candidates(bundle, runtime, variant)
    if len(candidates) == 1:
        return candidates[0].open(bundle.graph(candidates[0].variant), options)
    key = key_of([candidate.describe(bundle) for candidate in candidates], options.threads)
    return _open_remembered(bundle, candidates, key, options) or _open_quickest(bundle, candidates, key, options)


def _candidates(bundle: Bundle, runtime: str, variant: Optional[str]) -> List[_Candidate]:
    if variant is not None:
        bundle.entry(variant)
    if runtime != AUTO:
        row = select(runtime)
        return [_Candidate(row, variant)] if variant else _fitting(bundle, (row,), None)
    found = _fitting(bundle, installed_rows(), variant)
    ready = [candidate for candidate in found if candidate.row.ready(bundle.entry(candidate.variant).sha256)]
    return ready or found[:1]


def _fitting(bundle: Bundle, rows: Tuple[RuntimeRow, ...], variant: Optional[str]) -> List[_Candidate]:
    """Return those of `rows` that run a graph of the bundle, each with its preferred one or with `variant`."""
    found: List[_Candidate] = []
    for row in rows:
        wanted = row.variants if variant is None else tuple(name for name in row.variants + row.also if name == variant)
        held = [name for name in wanted if name in bundle.manifest.graphs]
        found.extend(_Candidate(row, name) for name in held[:1])
    if found:
        return found
    runs = "; ".join(f"{row.name} runs {' or '.join(row.variants)}" for row in rows)
    named = sorted({name for row in rows for name in row.also if name in bundle.manifest.graphs})
    hint = f", or name the variant {' or '.join(named)}, which may be slow" if named else ""
    raise BundleError(
        f"{bundle.path} holds the graphs {', '.join(sorted(bundle.manifest.graphs))}; {runs}. "
        f"Build the bundle again{hint}."
    )


def _open_remembered(
    bundle: Bundle, candidates: List[_Candidate], key: str, options: SessionOptions
) -> Optional[Opened]:
    choice = recall(key)
    for candidate in candidates:
        if choice is not None and candidate.row.name == choice.runtime:
            graph = bundle.graph(candidate.variant)
            # What worked at the time of the trial may be gone since, such as a device.
            with contextlib.suppress(BlendMaskError):
                return candidate.open(graph, options)
    return None


def _open_quickest(bundle: Bundle, candidates: List[_Candidate], key: str, options: SessionOptions) -> Opened:
    image = _noise(bundle.manifest.input)
    best: Optional[Opened] = None
    seconds: Dict[str, float] = {}
    failures: Dict[str, BlendMaskError] = {}
    for candidate in candidates:
        graph = bundle.graph(candidate.variant)
        try:
            opened, spent = _tried(candidate, graph, options, image)
        except BlendMaskError as error:
            failures[candidate.row.name] = error
            _LOG.warning("%s is installed but takes no part: %s", candidate.row.name, error)
            continue
        seconds[opened.runtime] = spent
        if best is not None:
            best, opened = sorted((best, opened), key=lambda one: seconds[one.runtime])
            opened.session.close()
        best = best or opened
    if best is None:
        raise _all_failed(bundle, failures)
    _LOG.info("%s: took %s; seconds per run: %s", bundle.path, best.runtime, seconds)
    remember(key, Choice(runtime=best.runtime, seconds=seconds))
    return best


def _tried(
    candidate: _Candidate, graph: bytes, options: SessionOptions, image: NDArray[np.uint8]
) -> Tuple[Opened, float]:
    opened = candidate.open(graph, options)
    try:
        return opened, measure(opened.session, image)
    except BlendMaskError:
        opened.session.close()
        raise


def _all_failed(bundle: Bundle, failures: Dict[str, BlendMaskError]) -> BlendMaskError:
    reasons = " ".join(f"{name}: {error}" for name, error in failures.items())
    if all(isinstance(error, RuntimeUnavailableError) for error in failures.values()):
        return RuntimeUnavailableError(f"No installed runtime can start for {bundle.path}. {reasons}")
    return InferenceError(f"No installed runtime runs {bundle.path}. {reasons}")


def _noise(spec: InputSpec) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, 3), np.uint8)
