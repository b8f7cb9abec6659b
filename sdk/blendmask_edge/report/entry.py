"""The part of a report on one graph or run: the columns of its tables and the series of its charts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Tuple

if TYPE_CHECKING:
    from blendmask_edge.benchmark.gate import Change
    from blendmask_edge.benchmark.layers import LayerTime
    from blendmask_edge.benchmark.machine import Machine
    from blendmask_edge.bundle.manifest import Manifest

CLASS_PREFIX = "mask_ap/"


@dataclass(frozen=True)
class Entry:
    """One graph or run.

    Attributes:
        label: short name in charts and headings.
        source: file that it is from.
        setting: how it was measured, in words; empty if it was not.
        metrics: as in a record of `blendmask bench`; empty if nothing was measured.
        latency_quantiles_ms: at `latency.QUANTILES`; may be empty.
        machine: that it was measured on.
        manifest, variant: of the bundle and of its graph.
        bundle_bytes: size of the bundle file.
        layers: by time.
        changes: limited metrics against a baseline.
        remarks: on how far the times can be trusted.
        disturbed: other work shared the processor, so that the times mean little.
    """

    label: str
    source: str
    setting: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    latency_quantiles_ms: Sequence[float] = ()
    machine: Optional[Machine] = None
    manifest: Optional[Manifest] = None
    variant: str = ""
    bundle_bytes: int = 0
    layers: Sequence[LayerTime] = ()
    changes: Tuple[Change, ...] = ()
    remarks: Tuple[str, ...] = ()
    disturbed: bool = False

    @property
    def class_ap(self) -> Dict[str, float]:
        """Mask AP by class, 0 to 1."""
        start = len(CLASS_PREFIX)
        return {name[start:]: value for name, value in self.metrics.items() if name.startswith(CLASS_PREFIX)}

    @property
    def graph_bytes(self) -> Optional[int]:
        """Size of the graph; None if it is unknown."""
        return None if self.manifest is None else self.manifest.graphs[self.variant].size


def distinct(entries: Sequence[Entry]) -> List[Entry]:
    """Return entries whose labels differ: equal ones get the folder of their file, or else their place."""
    by_folder = [replace(entry, label=f"{Path(entry.source).parent.name}/{entry.label}") for entry in entries]
    labeled = [long if _is_twice(entry, entries) else entry for entry, long in zip(entries, by_folder)]
    return [
        replace(entry, label=f"{entry.label} ({place})") if _is_twice(entry, labeled) else entry
        for place, entry in enumerate(labeled, start=1)
    ]


def _is_twice(entry: Entry, entries: Sequence[Entry]) -> bool:
    return Counter(other.label for other in entries)[entry.label] > 1
