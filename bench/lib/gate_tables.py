"""Tables of the studies of the gate, and of scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.lib.columns import head
from bench.lib.rates import CAUGHT, FALSE_ALARMS

Rows = Mapping[str, Mapping[str, Any]]
_FAULTS = {
    "sound/openvino": "none: the same bundle in OpenVINO, which rounds differently",
    "planted/masks-shifted": "masks shifted by one cell of 56",
    "planted/loss-0.5": "instances lost, 0.5 points of mask AP",
    "planted/loss-1": "instances lost, 1 point of mask AP",
    "sound/memory": "none: memory of another process",
    "planted/memory": "memory grown by 20 %",
}


def gate_table(rows: Rows) -> str:
    """Planted slowdowns that the gate detected, and false alarms, by load and threads."""
    shown = [metric for metric in next(iter(rows.values())) if metric.startswith("reported/")]
    limits = [f"above +{100 * float(metric.partition('/')[2]):g} %" for metric in shown]
    lines = head(
        "load, threads", "slowdown of the network", "runs", "inconclusive", "reported", "95 % interval", *limits,
        "latency over baseline",
    )  # fmt: skip
    for name, row in rows.items():
        fault, _, place = name.removeprefix("planted/").rpartition("%/")
        load, _, threads = place.rpartition("/threads-")
        share = f"{fault.removeprefix('slower-')} %" if fault else "none"
        ratio = " to ".join(f"{row[f'latency_ratio_{end}']:.2f}" for end in ("low", "high"))
        cells = [f"{load.replace('/', ', ')}, {threads}", share, str(row["runs"]), str(row["inconclusive"])]
        cells += [*_reported(row), *(str(row[metric]) for metric in shown), ratio]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def gate_accuracy_table(rows: Rows) -> str:
    """Planted losses of accuracy and memory that the gate detected, and false alarms, by limit of mask AP."""
    shown = [metric for metric in next(iter(rows.values())) if metric.startswith("reported/")]
    limits = [f"below -{100 * float(metric.partition('/')[2]):g} %" for metric in shown]
    lines = head("fault", "runs", "reported", "95 % interval", *limits, "change of the metric, mean (least to largest)")
    for name, row in rows.items():
        fault = _FAULTS.get(name, name.replace("planted/class-lost/", "class lost: "))
        mean, low, high = (f"{100 * row[key]:+.2f}" for key in ("change", "change_low", "change_high"))
        cells = [fault, str(row["runs"]), *_reported(row), *(str(row.get(metric, "-")) for metric in shown)]
        lines.append(f"| {' | '.join(cells)} | {mean} % ({low} to {high}) |")
    return "\n".join(lines)


def scaling_table(rows: Rows) -> str:
    """Time and memory by number of images and of workers."""
    lines = head(
        "images", "workers", "prediction", "images per second", "processor time per image", "scoring", "driver",
        "driver after scoring", "largest worker",
    )  # fmt: skip
    for name, row in rows.items():
        executor, workers = name.partition("/")[0].split("-")
        per_image = 1000 * row["cpu_seconds"] / row["images"]
        cells = [
            f"{row['images']:,}", f"{workers} {'on Ray' if executor == 'ray' else ''}".strip(),
            f"{row['seconds']:.0f} s", f"{row['images_per_second']:.0f}", f"{per_image:.1f} ms",
            f"{row['score_seconds']:.0f} s", *(_megabytes(row, key) for key in ("", "scored_", "worker_")),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _reported(row: Mapping[str, Any]) -> list[str]:
    count = str(row["reported"])
    name = next((name for name in (CAUGHT, FALSE_ALARMS) if name in row), None)
    return [count, "-" if name is None else f"{100 * row[f'{name}_low']:.0f} to {100 * row[f'{name}_high']:.0f} %"]


def _megabytes(row: Mapping[str, Any], key: str) -> str:
    value = row[f"{key}megabytes"]
    return f"{value:.0f} MB" if value else "-"
