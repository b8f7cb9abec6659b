"""The charts of a report, each about as wide as a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Sequence

from blendmask_edge.benchmark.latency import QUANTILES
from blendmask_edge.report.page import Chart
from blendmask_edge.report.theme import INK, SOFT, as_svg, color, drawing, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from blendmask_edge.report.entry import Entry

_STAGES = ("preprocess", "network", "postprocess")
_ROW = 0.26
MOST_LAYERS = 15
MOST_CLASSES = 25


def accuracy_against_latency(entries: Sequence[Entry]) -> Optional[Chart]:
    """Draw mask AP over median latency, with the interval of AP; None without both."""
    shown = [
        (number, entry) for number, entry in enumerate(entries) if {"mask_ap", "latency_p50_ms"} <= set(entry.metrics)
    ]
    if not shown:
        return None
    with drawing(2.9) as (figure, axes):
        for number, entry in shown:
            time, accuracy = entry.metrics["latency_p50_ms"], 100 * entry.metrics["mask_ap"]
            low, high = (100 * entry.metrics.get(f"mask_ap_{end}", accuracy / 100) for end in ("low", "high"))
            spread = [[max(0, accuracy - low)], [max(0, high - accuracy)]]
            axes.errorbar([time], [accuracy], spread, fmt="o", color=color(number), capsize=3, label=entry.label)
        axes.set_xlabel("latency p50, ms")
        axes.set_ylabel("mask AP, %")
        axes.set_xlim(0, 1.25 * max(entry.metrics["latency_p50_ms"] for _, entry in shown))
        legend_above(figure)
        return Chart(as_svg(figure), "Accuracy against latency")


def latency_distribution(entries: Sequence[Entry]) -> Optional[Chart]:
    """Draw the share of frames over latency; None without the distribution of one."""
    shown = [(number, entry) for number, entry in enumerate(entries) if entry.latency_quantiles_ms]
    if not shown:
        return None
    with drawing(2.9) as (figure, axes):
        for number, entry in shown:
            axes.plot(entry.latency_quantiles_ms, QUANTILES, color=color(number), label=entry.label)
        longest = max(entry.latency_quantiles_ms[-2] for _, entry in shown)
        axes.set_xlim(0, 1.25 * longest)
        axes.set_ylim(0, 100)
        axes.set_xlabel("latency, ms")
        axes.set_ylabel("frames done, %")
        legend_above(figure)
        return Chart(as_svg(figure), "Latency distribution")


def stages(entries: Sequence[Entry]) -> Optional[Chart]:
    """Draw the median time of each stage; None without one."""
    shown = [entry for entry in entries if all(f"{stage}_p50_ms" in entry.metrics for stage in _STAGES)]
    if not shown:
        return None
    with drawing(1.0 + 0.42 * len(shown)) as (figure, axes):
        starts = [0.0] * len(shown)
        for number, stage in enumerate(_STAGES, start=1):
            times = [entry.metrics[f"{stage}_p50_ms"] for entry in shown]
            axes.barh(range(len(shown)), times, left=starts, height=0.6, color=color(number), label=stage)
            starts = [start + time for start, time in zip(starts, times)]
        for row, total in enumerate(starts):
            axes.annotate(f"{total:.1f}", (total, row), (5, 0), textcoords="offset points", va="center", color=INK)
        _rows(axes, [entry.label for entry in shown])
        axes.set_xlim(0, 1.2 * max(starts))
        axes.set_xlabel("median, ms")
        legend_above(figure, len(_STAGES))
        return Chart(as_svg(figure), "Stages of a frame")


def classes(entries: Sequence[Entry], names: Sequence[str]) -> Optional[Chart]:
    """Draw mask AP of classes, a dot for each entry; None without any."""
    shown = [(number, entry) for number, entry in enumerate(entries) if entry.class_ap]
    if not shown or not names:
        return None
    listed = list(names)[:MOST_CLASSES]
    with drawing(0.9 + _ROW * len(listed)) as (figure, axes):
        for row, name in enumerate(listed):
            values = [100 * entry.class_ap[name] for _, entry in shown if name in entry.class_ap]
            if values:
                axes.plot([min(values), max(values)], [row, row], color=SOFT, linewidth=1, zorder=1)
        for number, entry in shown:
            known = [(100 * entry.class_ap[name], row) for row, name in enumerate(listed) if name in entry.class_ap]
            face, size = ("none", 52) if number == shown[0][0] and len(shown) > 1 else (color(number), 18)
            axes.scatter(*zip(*known), s=size, facecolor=face, edgecolor=color(number), label=entry.label, zorder=2)
        _rows(axes, listed)
        axes.set_xlabel("mask AP, %")
        legend_above(figure)
        return Chart(as_svg(figure), "Mask AP by class")


def layers(entries: Sequence[Entry], names: Sequence[str]) -> Optional[Chart]:
    """Draw the time of layers, a bar for each entry; None without any."""
    shown = [(number, entry) for number, entry in enumerate(entries) if entry.layers]
    if not shown or not names:
        return None
    height = 0.8 / len(shown)
    with drawing(0.9 + _ROW * len(names) * max(1, 0.75 * len(shown))) as (figure, axes):
        for place, (number, entry) in enumerate(shown):
            times = {layer.name: layer.milliseconds for layer in entry.layers}
            rows = [row + place * height - 0.4 + height / 2 for row in range(len(names))]
            axes.barh(rows, [times.get(name, 0) for name in names], height, color=color(number), label=entry.label)
        _rows(axes, [_shortened(name) for name in names])
        axes.set_xlabel("median, ms")
        legend_above(figure)
        return Chart(as_svg(figure), "Slowest layers")


def _rows(axes: Axes, names: List[str]) -> None:
    """Name the rows of a chart, the first one at the top."""
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def _shortened(name: str, most: int = 30) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]
