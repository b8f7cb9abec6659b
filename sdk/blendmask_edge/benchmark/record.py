"""Measurements of a run and their conditions, which a baseline stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional

import msgspec

from blendmask_edge.benchmark import reference
from blendmask_edge.benchmark.machine import Machine
from blendmask_edge.storage.digest import file_sha256

if TYPE_CHECKING:
    from blendmask_edge.predictor import MaskPredictor
    from blendmask_edge.storage.atomic import PathLike


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The graph that was run, by its hash, and how: `threads` as asked for, None where the runtime chose."""

    model: str
    variant: str
    graph_sha256: str
    runtime: str
    threads: Optional[int] = None

    @classmethod
    def of(cls, predictor: MaskPredictor, threads: Optional[int]) -> Subject:
        """Describe a predictor that was opened with `threads`."""
        manifest = predictor.manifest
        return cls(
            model=manifest.model,
            variant=predictor.variant,
            graph_sha256=manifest.graphs[predictor.variant].sha256,
            runtime=predictor.runtime,
            threads=threads,
        )


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The annotation file, without its folder, its hash, and the number of its images."""

    annotations: str
    sha256: str
    images: int

    @classmethod
    def of(cls, annotations: PathLike, images: int) -> Data:
        """Describe an annotation file that has been read."""
        path = Path(annotations)
        return cls(annotations=path.name, sha256=file_sha256(path), images=images)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """All that must be alike for two runs to be compared. `reference` is the version of the reference workload."""

    subject: Subject
    data: Data
    machine: Machine
    reference: int = reference.VERSION


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `created` is ISO 8601, UTC; `frames` were timed; `metrics` are named as in `latency` and `accuracy`.

    `latency_quantiles_ms` are those of `latency.QUANTILES`; empty in records of earlier releases.
    """

    created: str
    setting: Setting
    frames: int
    metrics: Dict[str, float]
    latency_quantiles_ms: List[float] = []
