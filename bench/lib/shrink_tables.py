"""Render the shrink study as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.lib.columns import head

Row = Mapping[str, Any]
Rows = Mapping[str, Row]
_NONE = "-"
_SPLITS = {"val": "unseen", "val_seen": "seen"}
_RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
_CHOICE = "choice"


def shrink_table(rows: Rows) -> str:
    """Accuracy, work, size and latency of each way to shrink each network."""
    lines = head(
        "network, recipe", *(f"mask AP, {name} (kept)" for name in _SPLITS.values()), "`tensorrt` graph, kept", "GMAC",
        "graph", *(f"{name}, p50" for name in _RUNTIMES.values()),
    )  # fmt: skip
    notes = []
    for name in dict.fromkeys(_recipes(rows)):
        accuracy = {split: _first(rows, f"{name}/cpu/{split}", f"{name}/{split}") for split in _SPLITS}
        fixed = {split: rows.get(f"{name}/tensorrt/{split}", {}) for split in _SPLITS}
        timed = {runtime: rows.get(f"{name}/{runtime}", {}) for runtime in _RUNTIMES}
        about = next((row for row in (*accuracy.values(), *timed.values()) if "macs" in row), {})
        cells = [
            name.replace("/", ", ", 1), *map(_accuracy, accuracy.values()),
            " / ".join(f"{100 * row['retention']:.1f} %" if "retention" in row else _NONE for row in fixed.values()),
            f"{about['macs'] / 1e9:.2f}" if about else _NONE,
            f"{about['size_bytes'] / 1e6:.1f} MB" if about else _NONE, *map(_latency, timed.values()),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
        if any(row.get("training_kept") == 0 for row in accuracy.values()):
            notes.append(f"`{name}`: QAT did not help on held-out images, so PTQ was kept.")
    failed = [f"`{name}`: {row['error']}." for name, row in rows.items() if "error" in row]
    return "\n".join(lines + [line for note in notes + failed for line in ("", note)])


def shrink_choices_table(rows: Rows) -> str:
    """Mask AP of each way to choose channels, on held-out training images."""
    lines = head("network, options of `blendmask prune --macs 0.5`", "mask AP", "GMAC")
    for name, row in rows.items():
        network, _, choice = name.partition(f"/{_CHOICE}/")
        if choice:
            lines.append(f"| {network}, {choice} | {_accuracy(row)} | {row['macs'] / 1e9:.2f} |")
    return "\n".join(lines)


def _recipes(rows: Rows) -> Iterator[str]:
    """Names of networks with their recipes, in order."""
    for name, row in rows.items():
        recipe, _, last = name.rpartition("/")
        if last in (*_SPLITS, *_RUNTIMES) and "error" not in row:
            yield recipe.removesuffix("/cpu").removesuffix("/tensorrt")


def _first(rows: Rows, *names: str) -> Row:
    return next((rows[name] for name in names if name in rows), {})


def _accuracy(row: Row) -> str:
    if "mask_ap" not in row:
        return _NONE
    ap = f"{100 * row['mask_ap']:.1f}"
    if "retention" not in row:
        return ap
    kept, low, high = (100 * row[name] for name in ("retention", "retention_low", "retention_high"))
    return f"{ap} ({kept:.1f} %, {low:.1f} to {high:.1f})"


def _latency(row: Row) -> str:
    if "latency_p50_ms" not in row:
        return _NONE
    return f"{row['latency_p50_ms']:.1f} ms ({row['speedup_vs_float']:.2f} x)"
