"""A run in words and columns."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

import msgspec

from blendmask_edge.benchmark.gate import WITHIN, Change
from blendmask_edge.benchmark.latency import PERCENTILES, STAGES, WHOLE
from blendmask_edge.benchmark.run import Outcome, Request
from blendmask_edge.cli.columns import align
from blendmask_edge.hardware.energy import BOARD_ENERGY, CPU_ENERGY, GPU_ENERGY


def report_lines(outcome: Outcome) -> List[str]:
    """Return what was measured: the setting, average precision, milliseconds by stage, and remarks."""
    setting, metrics = outcome.record.setting, outcome.record.metrics
    subject, data = setting.subject, setting.data
    threads = "threads by its own choice" if subject.threads is None else f"threads {subject.threads}"
    return [
        f"{subject.model}, {subject.variant} graph {subject.graph_sha256[:12]}, {subject.runtime}, {threads}",
        f"{data.images} images of {data.annotations}, {outcome.record.frames} frames, {setting.machine.cpu}",
        "",
        *align(
            [["AP", "50:95", "50", "75", "95 % interval"], *(_accuracy_row(metrics, task) for task in ("mask", "box"))]
        ),
        "",
        *align([["ms", *(f"p{percent}" for percent in PERCENTILES), "x reference"], *_time_rows(metrics)]),
        "",
        f"{metrics['fps']:.1f} frames/s, masks included, files not; {metrics['outside_share']:.1%} outside the network",
        *_resource_lines(metrics),
        *(f"note: {remark}" for remark in outcome.remarks),
    ]


def change_lines(changes: Sequence[Change]) -> List[str]:
    """Return the table of what moved against the baseline; nothing where nothing was compared."""
    if not changes:
        return []
    return ["", *align([["metric", "baseline", "now", "change", "allowed", ""], *map(_change_row, changes)])]


def closing_lines(request: Request) -> List[str]:
    """Return where the result lies and what to do next."""
    again = f"blendmask bench {request.bundle} --images {request.images} --annotations {request.annotations}"
    if request.baseline is None:
        return [f"Next: {again} --baseline FILE.json --update-baseline"]
    if request.update:
        return [
            f"Saved the baseline to {request.baseline}: review its values and limits, and commit it",
            f"Next: {again} --baseline {request.baseline}",
        ]
    return [f"All metrics are within the limits of {request.baseline}"]


def as_document(outcome: Outcome) -> Dict[str, Any]:
    """Return the same for a machine: `record`, `remarks`, `disturbances`, `changes` with their `result`, `passed`."""
    changes = [{**msgspec.to_builtins(change), "result": change.result} for change in outcome.changes]
    return {
        "record": msgspec.to_builtins(outcome.record),
        "remarks": outcome.remarks,
        "changes": changes,
        "disturbances": list(outcome.disturbances),
        "passed": not outcome.inconclusive and all(change["result"] == WITHIN for change in changes),
    }


def _accuracy_row(metrics: Mapping[str, float], task: str) -> List[str]:
    low, high = (_number(metrics.get(f"{task}_ap_{end}"), ".4f") for end in ("low", "high"))
    return [
        task,
        *(_number(metrics.get(f"{task}_ap{suffix}"), ".4f") for suffix in ("", "50", "75")),
        f"{low} to {high}",
    ]


def _time_rows(metrics: Mapping[str, float]) -> List[List[str]]:
    names = {**{stage: stage for stage in STAGES}, WHOLE: "preprocess..postprocess", "reference": "reference"}
    return [
        [
            label,
            *(_number(metrics[f"{name}_p{percent}_ms"], ".2f") for percent in PERCENTILES),
            _number(metrics.get(f"{name}_ratio"), ".3f"),
        ]
        for name, label in names.items()
    ]


def _change_row(change: Change) -> List[str]:
    moved = "" if change.now is None or not change.before else f"{change.now / change.before - 1:+.1%}"
    allowed = f"{change.low:.4g} to {change.high:.4g}"
    result = "" if change.result == WITHIN else change.result
    return [change.metric, f"{change.before:.4g}", _number(change.now, ".4g"), moved, allowed, result]


def _resource_lines(metrics: Mapping[str, float]) -> List[str]:
    said = {
        "memory_mb": "{:.0f} MB of memory at most",
        CPU_ENERGY: "{:.0f} mJ of the processor for a frame",
        GPU_ENERGY: "{:.0f} mJ of the GPU for a frame",
        BOARD_ENERGY: "{:.0f} mJ of the board for a frame",
    }
    return [text.format(metrics[name]) for name, text in said.items() if name in metrics]


def _number(value: Optional[float], form: str) -> str:
    return "-" if value is None else format(value, form)
