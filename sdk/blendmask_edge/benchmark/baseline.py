"""Baselines: a record of a run with limits on both sides, one JSON file that people review.

A limit is a share of the recorded value, so 0.01 lets a mask AP of 0.300 fall to 0.297 and a time of 40 grow to 40.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Tuple

import msgspec

from blendmask_edge.benchmark.latency import STAGES
from blendmask_edge.benchmark.record import Data, Record, Setting
from blendmask_edge.errors import BaselineError
from blendmask_edge.storage.atomic import write_bytes
from blendmask_edge.storage.bounded import read_bounded

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

SCHEMA_VERSION = 1
_MOST_BYTES = 2**24
UPDATE = "--baseline FILE --update-baseline"


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """How far a metric may be worse, and how much better, than recorded, each as a share of the recorded value."""

    worse: float
    better: float

    def __post_init__(self) -> None:
        """Refuse shares below zero."""
        if not (self.worse >= 0 and self.better >= 0):
            raise ValueError("a limit is below 0")


DEFAULT_LIMITS: Mapping[str, Limit] = {
    "mask_ap": Limit(worse=0.005, better=0.02),
    "mask_ap75": Limit(worse=0.02, better=0.04),
    "box_ap": Limit(worse=0.01, better=0.02),
    "latency_ratio": Limit(worse=0.10, better=0.15),
    "decode_ratio": Limit(worse=0.50, better=0.50),
    "preprocess_ratio": Limit(worse=0.30, better=0.30),
    "network_ratio": Limit(worse=0.10, better=0.15),
    "postprocess_ratio": Limit(worse=0.30, better=0.30),
    "latency_p99_ratio": Limit(worse=1.00, better=0.90),
    "memory_mb": Limit(worse=0.10, better=0.30),
}
"""Limits of a new baseline. That of `mask_ap` follows from the study `gate_accuracy`: what the rounding of another
runtime changes stays within it. Those of latency and network follow from the study `gate`: no undisturbed run of a
sound bundle left them. Times are limited as ratios to the reference workload, which load leaves alone; a limit on
milliseconds, say `latency_p99_ms`, is added to the file by hand where a robot has a budget."""
ONE_THREAD: Mapping[str, Limit] = {name: Limit(worse=0.08, better=0.15) for name in ("latency_ratio", "network_ratio")}
"""With one thread, which need not wait for others, times vary less: limits that follow from the same study."""
MOST_BETTER = 0.9
"""A new baseline never allows a time to fall by more than this share: a limit at or below 0 could not be left."""
FREE_SHARE = 0.02
"""A stage may always move by this share of the whole frame: tenths of a millisecond jitter by more than their third."""


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """A record and the limits that a later run is held to, by metric."""

    schema_version: int = SCHEMA_VERSION
    limits: Dict[str, Limit]
    record: Record

    def __post_init__(self) -> None:
        """Refuse limits on what was not measured."""
        unknown = sorted(set(self.limits) - set(self.record.metrics))
        if unknown:
            raise ValueError(f"limits name {', '.join(unknown)}, which the record does not have")


def is_time(metric: str) -> bool:
    """Whether other work on the machine changes a metric; it changes neither accuracy nor memory."""
    return not is_accuracy(metric) and metric != "memory_mb"


def is_accuracy(metric: str) -> bool:
    """Whether a metric is an average precision, which is more when better and the same on every machine."""
    return "_ap" in metric


def new_baseline(record: Record, former: Optional[Baseline] = None) -> Baseline:
    """Return a baseline with the limits of a former one, or the default ones, on what the record has."""
    limits = _default_limits(record) if former is None else former.limits
    return Baseline(limits={name: limits[name] for name in limits if name in record.metrics}, record=record)


def read_baseline(path: PathLike) -> Baseline:
    """Read a baseline.

    Raises:
        BaselineError: no such file, not JSON, another schema version, or a field missing, of a wrong type or out of
            range.
    """
    try:
        baseline = msgspec.json.decode(read_bounded(path, _MOST_BYTES), type=Baseline)
    except OSError as error:
        raise BaselineError(f"Cannot read {path}: {error.strerror}. Make a baseline with {UPDATE}.") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BaselineError(
            f"{path} is not a valid baseline: {error}. Restore it, or remove it and make it anew with {UPDATE}."
        ) from error
    if baseline.schema_version != SCHEMA_VERSION:
        raise BaselineError(
            f"{path} has schema version {baseline.schema_version}, this release reads {SCHEMA_VERSION}. "
            f"Remove it and make it anew with {UPDATE}."
        )
    return baseline


def write_baseline(path: PathLike, baseline: Baseline) -> None:
    """Write a baseline, whole or not at all.

    Raises:
        OutputError: the folder is missing or read-only, or the disk is full.
    """
    write_bytes(path, msgspec.json.format(msgspec.json.encode(baseline), indent=2) + b"\n")


def check_comparable(path: PathLike, baseline: Baseline, setting: Setting, accuracy_only: bool = False) -> None:
    """See before long work that a run in this setting may be held against a baseline.

    Raises:
        BaselineError: it was made on other data, another model or variant, or, unless accuracy alone is compared, on
            another machine, by another runtime, with another number of threads or another reference workload.
    """
    then = baseline.record.setting
    differences = "; ".join(_differences(then, setting))
    if differences:
        raise BaselineError(
            f"{path} was measured with {differences}. Measure the same, or make another baseline with {UPDATE}."
        )
    differences = "" if accuracy_only else "; ".join(_time_differences(then, setting))
    if differences:
        raise BaselineError(
            f"{path} was measured with {differences}, so its limits on time mean nothing here. "
            f"Make a baseline of this setting with {UPDATE}, or compare accuracy alone with --accuracy-only."
        )


def _default_limits(record: Record) -> Dict[str, Limit]:
    limits, metrics = dict(DEFAULT_LIMITS), record.metrics
    if record.setting.subject.threads == 1:
        limits.update(ONE_THREAD)
    for name in [f"{stage}_ratio" for stage in STAGES if metrics.get(f"{stage}_ratio")]:
        least = round(FREE_SHARE * metrics["latency_ratio"] / metrics[name], 2)
        limits[name] = Limit(
            worse=max(least, limits[name].worse), better=min(MOST_BETTER, max(least, limits[name].better))
        )
    return limits


def _differences(then: Setting, now: Setting) -> List[str]:
    return _unequal(
        {
            "": (_named(then.data), _named(now.data)),
            "the model ": (then.subject.model, now.subject.model),
            "the graph ": (then.subject.variant, now.subject.variant),
        }
    )


def _time_differences(then: Setting, now: Setting) -> List[str]:
    return then.machine.difference(now.machine) + _unequal(
        {
            "runtime ": (then.subject.runtime, now.subject.runtime),
            "threads: ": (_threads(then.subject.threads), _threads(now.subject.threads)),
            "reference workload ": (str(then.reference), str(now.reference)),
        }
    )


def _unequal(pairs: Mapping[str, Tuple[str, str]]) -> List[str]:
    return [f"{label}{then}, not {now}" for label, (then, now) in pairs.items() if then != now]


def _named(data: Data) -> str:
    return f"{data.images} images of {data.annotations} ({data.sha256[:12]})"


def _threads(count: Optional[int]) -> str:
    return "the runtime's choice" if count is None else str(count)
