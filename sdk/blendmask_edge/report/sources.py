"""Tell what the files that a report is asked for are, and read those that hold measurements."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

import msgspec

from blendmask_edge.benchmark.baseline import read_baseline
from blendmask_edge.benchmark.gate import Change
from blendmask_edge.benchmark.history import Run, decode_run, read_history
from blendmask_edge.benchmark.record import Record
from blendmask_edge.comparison.graphs import NamedGraph, named_graph
from blendmask_edge.comparison.prediction_file import INSTANCES_NAME
from blendmask_edge.errors import BaselineError, ConfigError
from blendmask_edge.report.entry import Entry
from blendmask_edge.storage.bounded import read_bounded

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

_MOST_BYTES = 2**26
_KNOWN = (
    "a bundle, a baseline, record or --json output of `bench`, a folder of records, or --json output of `sensitivity`"
)


@dataclass(frozen=True)
class Sources:
    """The sources of a report.

    Attributes:
        graphs: to be measured.
        entries: measured before.
        histories: runs by folder.
        sensitivity: 1 - mask IoU against the float network if this layer alone is quantized, by layer.
    """

    graphs: Sequence[NamedGraph] = ()
    entries: Sequence[Entry] = ()
    histories: Mapping[str, List[Run]] = field(default_factory=dict)
    sensitivity: Mapping[str, float] = field(default_factory=dict)


class _Bench(msgspec.Struct):
    """The output of `blendmask bench --json`."""

    record: Record
    changes: List[Change] = []
    remarks: List[str] = []


class _Layer(msgspec.Struct):
    name: str
    masks: float


class _Sensitivity(msgspec.Struct):
    """The output of `blendmask sensitivity --json`."""

    layers: List[_Layer]


class _Study(msgspec.Struct):
    """A result in bench/results."""

    study: str
    rows: List[Dict[str, Any]]


def read_sources(paths: Sequence[PathLike]) -> Sources:
    """Read what is not a bundle, and name the graphs of what is.

    Args:
        paths: bundles (`M.bmz`, `M.bmz:float`), JSON files of `blendmask bench`, folders of records, a JSON file of
            `blendmask sensitivity`.

    Raises:
        ConfigError: nothing is given.
        BaselineError: a file cannot be read or is none of these.
    """
    if not paths:
        raise ConfigError(f"A report needs a file: {_KNOWN}.")
    graphs: List[NamedGraph] = []
    entries: List[Entry] = []
    histories: Dict[str, List[Run]] = {}
    sensitivity: Dict[str, float] = {}
    for path in paths:
        graph = named_graph(path)
        if graph is not None:
            graphs.append(graph)
        elif Path(path).is_dir():
            _require_no_predictions(Path(path))
            histories[str(path)] = read_history(path)
        else:
            entry, layers = _read_json(Path(path))
            entries += [entry] if entry is not None else []
            sensitivity.update(layers)
    return Sources(graphs, entries, histories, sensitivity)


def _require_no_predictions(folder: Path) -> None:
    if (folder / INSTANCES_NAME).is_file():
        raise BaselineError(
            f"{folder} holds predictions, not records. Compare two such folders: blendmask compare A B --output "
            "changes.html"
        )


def entry_of_run(run: Run, source: str, label: Optional[str] = None) -> Entry:
    """Return a run of a history as an entry."""
    remarks = tuple(run.disturbances)
    entry = _entry(run.record, label or run.name, source, tuple(run.changes), remarks)
    return replace(entry, disturbed=bool(remarks))


def setting_of(record: Record) -> str:
    """Say how a record was measured."""
    subject, data = record.setting.subject, record.setting.data
    threads = "threads by its own choice" if subject.threads is None else f"threads {subject.threads}"
    return (
        f"{subject.model}, {subject.variant} graph {subject.graph_sha256[:12]}, {subject.runtime}, {threads}; "
        f"{data.images} images of {data.annotations}, {record.frames} frames; {record.created}"
    )


def _read_json(path: Path) -> Tuple[Optional[Entry], Dict[str, float]]:
    """Return the entry of a file, or the sensitivity of layers."""
    try:
        data = read_bounded(path, _MOST_BYTES)
        keys = set(msgspec.json.decode(data, type=Dict[str, msgspec.Raw]))
    except OSError as error:
        raise BaselineError(f"Cannot read {path}: {error.strerror}. Give {_KNOWN}.") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BaselineError(f"{path} is not a JSON object ({str(error)[:120]}). Give {_KNOWN}.") from error
    if {"limits", "record"} <= keys:
        baseline = read_baseline(path)
        return _entry(baseline.record, path.stem, str(path)), {}
    if {"schema_version", "record"} <= keys:
        return entry_of_run(decode_run(path, data), str(path)), {}
    if "record" in keys:
        bench = _decode(path, data, _Bench)
        return _entry(bench.record, path.stem, str(path), tuple(bench.changes), tuple(bench.remarks)), {}
    if {"layers", "together"} <= keys:
        return None, {layer.name: layer.masks for layer in _decode(path, data, _Sensitivity).layers}
    if {"study", "rows"} <= keys:
        return None, _of_study(path, _decode(path, data, _Study))
    raise BaselineError(f"{path} holds none of what a report is made of. Give {_KNOWN}.")


def _decode(path: Path, data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BaselineError(f"{path} is not sound: {error}. Give {_KNOWN}.") from error


def _of_study(path: Path, study: _Study) -> Dict[str, float]:
    rows = {str(row.get("name")).rpartition("/layer/")[2]: row.get("mask_iou") for row in study.rows}
    layers = {name: 1 - overlap for name, overlap in rows.items() if isinstance(overlap, (int, float))}
    if study.study != "sensitivity" or not layers:
        raise BaselineError(f"{path} is a result of {study.study!r} and tells no sensitivity. Give {_KNOWN}.")
    return layers


def _entry(
    record: Record, label: str, source: str, changes: Tuple[Change, ...] = (), remarks: Tuple[str, ...] = ()
) -> Entry:
    return Entry(
        label=label,
        source=source,
        setting=setting_of(record),
        metrics=record.metrics,
        latency_quantiles_ms=record.latency_quantiles_ms,
        machine=record.setting.machine,
        variant=record.setting.subject.variant,
        changes=changes,
        remarks=remarks,
    )
