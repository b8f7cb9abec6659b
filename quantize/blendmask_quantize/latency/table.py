"""Measured times of single layers, kept in the cache of this machine by runtime and version."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from blendmask_edge.benchmark.disturbance import other_work, read_cpu_times
from blendmask_edge.errors import OutputError
from blendmask_edge.hardware.cpu import processor
from blendmask_edge.runtimes.registry import select
from blendmask_edge.storage.cache import Cache
from blendmask_quantize.latency.layer_graph import layer_graph
from blendmask_quantize.latency.shapes import ConvShape
from blendmask_quantize.latency.timing import THREADS, time_layer
from blendmask_quantize.runs.progress import Progress, silent

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the channels of a layer at which it is timed; times between them are interpolated."""
MULTIPLES = (8, 16, 32)
_LOG = logging.getLogger(__name__)
_DISTURBED: dict[str, dict[str, float]] = {}
"""Times that other work disturbed, by runtime and name: good for this process, so that it is consistent."""
_CACHE = "latency"
_SAVE_EVERY = 50
_STEP = 8
_PROBE = ConvShape(96, 96, 32, 32, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), False, True)
_CALL = ConvShape(8, 8, 8, 8, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), False, True)
_PROBED = (64, 96, 128)
_NEAR_BEST = 0.8


@dataclass
class LatencyTable:
    """Milliseconds by name: of layers, and of whole networks.

    Attributes:
        runtime: name of the runtime.
        measure: times a layer, see `time_layer`.
        entries: what was measured so far.
        cache: keeps them; None keeps nothing.
        disturbed: names of times that other work disturbed, which are not kept.
    """

    runtime: str
    measure: Callable[[bytes, str], float] = time_layer
    entries: dict[str, float] = field(default_factory=dict)
    cache: Cache | None = None
    disturbed: set[str] = field(default_factory=set)

    @classmethod
    def of_machine(cls, runtime: str) -> LatencyTable:
        """Return the table of this machine, with what earlier runs measured undisturbed.

        Raises:
            RuntimeUnavailableError: the runtime is not installed.
        """
        select(runtime).load()
        try:
            cache = Cache.of_machine(_CACHE)
        except OutputError:
            return cls(runtime)
        stored = cache.read(_file_name(runtime))
        try:
            entries = {} if stored is None else msgspec.json.decode(stored, type=dict[str, float])
        except msgspec.MsgspecError:
            entries = {}
        passing = _DISTURBED.get(runtime, {})
        left = {name: passing[name] for name in passing.keys() - entries.keys()}
        return cls(runtime, entries=entries | left, cache=cache, disturbed=set(left))

    def save(self) -> None:
        """Keep what was measured for the next run, where there is a cache."""
        if self.cache is not None:
            undisturbed = {name: self.entries[name] for name in self.entries.keys() - self.disturbed}
            self.cache.keep(_file_name(self.runtime), msgspec.json.encode(undisturbed))

    def add(self, times: Mapping[str, float], sign: str) -> None:
        """Add times, and keep them for the next run unless other work disturbed them.

        Args:
            times: milliseconds by name.
            sign: that other work disturbed them; empty where none did.
        """
        self.entries.update(times)
        if not sign:
            self.save()
            return
        self.disturbed.update(times)
        if self.cache is not None:
            _DISTURBED.setdefault(self.runtime, {}).update(times)

    def measure_all(self, shapes: Iterable[ConvShape], progress: Progress = silent) -> None:
        """Time the layers that the table lacks.

        Args:
            shapes: of layers, at the widths to be timed.
            progress: announces how many are timed.
        """
        missing = [shape for shape in dict.fromkeys((_CALL, *shapes)) if shape.name not in self.entries]
        if not missing:
            return
        on_step, signs = progress(f"timing layers under {self.runtime}", len(missing)), []
        for first in range(0, len(missing), _SAVE_EVERY):
            times, before = {}, read_cpu_times()
            for shape in missing[first : first + _SAVE_EVERY]:
                times[shape.name] = self.measure(layer_graph(shape), self.runtime)
                on_step()
            sign = other_work(before, read_cpu_times())
            self.add(times, sign)
            signs += [sign] if sign else []
        if signs:
            _LOG.warning("%s Times of layers measured meanwhile are used now, but not kept.", signs[0])

    def milliseconds(self, shape: ConvShape) -> float:
        """Return the time of a layer as it was measured, without that of a call of the runtime."""
        return max(self.entries[shape.name] - self.entries[_CALL.name], 0.0)

    def multiple(self, progress: Progress = silent) -> int:
        """Return the number of channels to remove at a time: the smallest that saves nearly what its work takes.

        Convolutions are timed with and without 8, 16 and 32 of their channels; what they save of the share of the work
        is compared, and the smallest number within 0.8 of the best is taken.
        """
        probes = {(width, less): _square(width - less) for width in _PROBED for less in (0, *MULTIPLES)}
        self.measure_all(probes.values(), progress)
        times = {key: self.milliseconds(shape) for key, shape in probes.items()}
        realized = {less: float(np.mean([_realized(times, width, less) for width in _PROBED])) for less in MULTIPLES}
        best = max(realized.values())
        return next(less for less in MULTIPLES if realized[less] >= _NEAR_BEST * best)


@dataclass(frozen=True)
class LayerTimes:
    """Times of a call as a function of its channels.

    Attributes:
        inputs, outputs: numbers of channels that were timed, ascending.
        times: milliseconds (inputs, outputs), which no wider layer undercuts.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    times: np.ndarray

    def at(self, inputs: int, outputs: int) -> float:
        """Return the time with these channels, interpolated."""
        along = [float(np.interp(outputs, self.outputs, row)) for row in self.times]
        return float(np.interp(inputs, self.inputs, along))


def timed_widths(shape: ConvShape, *, inputs: bool, outputs: bool) -> list[list[ConvShape]]:
    """Return the shapes at which a layer is timed: rows of input channels, columns of output channels.

    Args:
        shape: of the layer with all channels.
        inputs, outputs: whether these can be removed.
    """
    ins = _widths(shape.inputs) if inputs and not shape.depthwise else [shape.inputs]
    outs = _widths(shape.outputs) if outputs else [shape.outputs]
    return [[shape.of_width(out if shape.depthwise else given, out) for out in outs] for given in ins]


def layer_times(table: LatencyTable, rows: Sequence[Sequence[ConvShape]]) -> LayerTimes:
    """Return the times of a layer from a table that has them."""
    times = np.array([[table.milliseconds(shape) for shape in row] for row in rows])
    rising = np.maximum.accumulate(np.maximum.accumulate(times, axis=0), axis=1)
    return LayerTimes(tuple(row[0].inputs for row in rows), tuple(shape.outputs for shape in rows[0]), rising)


def _widths(channels: int) -> list[int]:
    return sorted({min(channels, max(_STEP, round(channels * share / _STEP) * _STEP)) for share in SHARES})


def _square(width: int) -> ConvShape:
    return replace(_PROBE, inputs=width, outputs=width)


def _realized(times: dict[tuple[int, int], float], width: int, less: int) -> float:
    """Saved time over saved work."""
    saved = 1 - times[width, less] / max(times[width, 0], 1e-9)
    return saved / (1 - ((width - less) / width) ** 2)


def _file_name(runtime: str) -> str:
    parts = [runtime, select(runtime).version, f"{THREADS} threads", processor()]
    return f"{runtime}-{hashlib.sha256(repr(parts).encode()).hexdigest()}.json"
