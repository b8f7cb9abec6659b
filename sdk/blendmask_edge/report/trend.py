"""The trend of a history: each metric over the runs, with the limits that were left marked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

from blendmask_edge.report.numbers import percent, plain
from blendmask_edge.report.page import Block, Chart, Charts, Section, Table
from blendmask_edge.report.theme import BAD, INK, PAPER, SOFT, as_svg, color, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from blendmask_edge.benchmark.history import Run

METRICS = (
    ("mask_ap", "mask AP, %", 100.0),
    ("latency_ratio", "latency over reference workload", 1.0),
    ("latency_p50_ms", "latency p50, ms", 1.0),
    ("latency_p99_ms", "latency p99, ms", 1.0),
)
_MOST_NAMES = 8
_LONGEST_NAME = 12


def trend_sections(folder: str, runs: Sequence[Run], html: bool) -> List[Section]:
    """Return a section for each series of runs that may be compared with each other.

    Args:
        folder: name of the history.
        runs: the oldest first.
        html: whether charts can be shown.
    """
    series: Dict[str, List[Run]] = {}
    for run in runs:
        series.setdefault(_series(run), []).append(run)
    return [_section(folder, name, members, html) for name, members in series.items()]


def _series(run: Run) -> str:
    """Say what a run measured: runs that differ in it are on no common line."""
    subject, data, machine = run.record.setting.subject, run.record.setting.data, run.record.setting.machine
    threads = "threads by its own choice" if subject.threads is None else f"threads {subject.threads}"
    return (
        f"{subject.model}, {subject.variant} graph, {subject.runtime}, {threads}; {data.images} images of "
        f"{data.annotations} ({data.sha256[:8]}); {machine.cpu}, {machine.cores} cores"
    )


def _section(folder: str, name: str, runs: List[Run], html: bool) -> Section:
    left = sum(bool(run.left) for run in runs)
    summary = f"{len(runs)} run{'s' * (len(runs) > 1)}, {left} with a metric outside its limits."
    blocks: List[Block] = [name, summary]
    if html and len(runs) > 1:
        candidates = [_chart(runs, *metric) for metric in METRICS]
        blocks.append(Charts([chart for chart in candidates if chart is not None]))
        blocks.append(
            "Band: what the baseline allowed. Cross: outside its limits. Hollow: other work disturbed the times."
        )
    blocks.append(_table(runs))
    return Section(f"Trend of {Path(folder).name or folder}", blocks)


def _chart(runs: Sequence[Run], metric: str, title: str, factor: float) -> Optional[Chart]:
    """Draw a metric over the runs; None if no run has it."""
    places = [place for place, run in enumerate(runs) if metric in run.record.metrics]
    if not places:
        return None
    values = [factor * runs[place].record.metrics[metric] for place in places]
    with drawing(2.7) as (figure, axes):
        axes.plot(places, values, color=color(1), linewidth=1.2, zorder=2)
        for place, value in zip(places, values):
            limit = next((change for change in runs[place].changes if change.metric == metric), None)
            if limit is not None:
                low, high = factor * limit.low, factor * limit.high
                axes.fill_between([place - 0.5, place + 0.5], low, high, color=color(1), alpha=0.12, linewidth=0)
            _point(axes, runs, metric, place, value)
        axes.margins(y=0.15)
        axes.set_xlim(-0.6, len(runs) - 0.4)
        step = -(-len(runs) // _MOST_NAMES)
        shown = list(range(len(runs) - 1, -1, -step))[::-1]
        names = [_short(runs[place]) for place in shown]
        axes.set_xticks(shown, names, rotation=45, ha="right", color=SOFT)
        return Chart(as_svg(figure), title)


def _point(axes: Axes, runs: Sequence[Run], metric: str, place: int, value: float) -> None:
    """Draw a run: a cross with its name where the metric is outside its limits, hollow where its time is disturbed."""
    left = _is_outside(runs[place], metric)
    edge = BAD if left else color(1)
    face = PAPER if runs[place].disturbances and metric != "mask_ap" else edge
    size, marker = (52, "X") if left else (22, "o")
    axes.scatter([place], [value], s=size, marker=marker, facecolor=face, edgecolor=edge, zorder=3)
    if left and not (place and _is_outside(runs[place - 1], metric)):  # names of neighbors would cover each other
        known = sorted(run.record.metrics[metric] for run in runs if metric in run.record.metrics)
        above = runs[place].record.metrics[metric] >= known[len(known) // 2]
        at: Any = {"xytext": (0, 8 if above else -14), "textcoords": "offset points", "ha": "center"}
        axes.annotate(_short(runs[place]), (place, value), color=INK, fontsize=8, **at)


def _short(run: Run) -> str:
    return run.name[:_LONGEST_NAME]


def _is_outside(run: Run, metric: str) -> bool:
    return any(change.metric == metric for change in run.left)


def _table(runs: Sequence[Run]) -> Table:
    """Return the runs, the newest first."""
    rows: List[List[str]] = []
    for run in reversed(runs):
        metrics = run.record.metrics
        left = ", ".join(f"{change.metric} {change.result}" for change in run.left)
        note = "disturbed" if run.disturbances else ""
        rows.append(
            [
                run.name,
                run.record.created[:16].replace("T", " "),
                percent(metrics.get("mask_ap")),
                plain(metrics.get("latency_ratio"), 3),
                *(plain(metrics.get(f"latency_{name}_ms")) for name in ("p50", "p99")),
                "; ".join(part for part in (left, note) if part) or "-",
            ]
        )
    return Table(["run", "measured, UTC", "mask AP", "x reference", "p50 ms", "p99 ms", "outside its limits"], rows)
