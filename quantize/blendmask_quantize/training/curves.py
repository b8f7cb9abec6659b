"""The losses of a log as a plot."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize.training.log import read_log

PLOT_FILE = "curves.png"

_POINTS = 200  # of a curve, each the mean of its share of the steps
_DECADES = 3  # below the highest curve that are shown
_TOTAL = "total"
_NAMES = {
    "loss_fcos_cls": "classes", "loss_fcos_loc": "boxes", "loss_fcos_ctr": "centerness", "loss_mask": "masks",
    "loss_dice": "masks, Dice", "loss_basis_sem": "semantic", "distill_features": "teacher: features",
    "distill_classes": "teacher: classes", "distill_centerness": "teacher: centerness",
    "distill_boxes": "teacher: boxes", "distill_masks": "teacher: masks", "distill_towers": "teacher: towers",
    "distill_bases": "teacher: bases",
}  # fmt: skip
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5A2B")
"""Told apart by most color-blind eyes too (Okabe and Ito)."""
_STYLES = ("-", "--", ":")

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def draw_curves(log: Path, path: Path) -> Path | None:
    """Draw the losses of a log as a PNG; None where it is empty, or matplotlib is not installed.

    Args:
        log: file of a `CsvLog`.
        path: the image; it appears whole or not at all.

    Raises:
        OutputError: the image cannot be written.
    """
    rows = read_log(log)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    if not rows:
        return None
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots()
    curves = {name: _averaged(rows, name) for name in rows[0] if name not in ("iteration", "seconds")}
    _plot(axes, curves)
    _label(axes, curves)
    image = io.BytesIO()
    figure.savefig(image, dpi=110, format="png")
    write_bytes(path, image.getvalue())
    return path


def _plot(axes: Any, curves: dict[str, Curve]) -> None:
    """One line for each loss, with its name and last value in the legend, in the order of the lines at the right."""
    styles = {name: (_COLORS[i % len(_COLORS)], _STYLES[i // len(_COLORS) % len(_STYLES)])
              for i, name in enumerate(name for name in curves if name != _TOTAL)}  # fmt: skip
    for name in sorted(curves, key=lambda name: -curves[name][1][-1]):
        color, style = styles.get(name, ("black", "-"))
        label = f"{_NAMES.get(name, name)}  {curves[name][1][-1]:.3g}"
        axes.plot(*curves[name], color=color, linestyle=style, linewidth=2.5 if name == _TOTAL else 1.5, label=label)


def _label(axes: Any, curves: dict[str, Curve]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    values = np.concatenate([values for _, values in curves.values()])
    positive = values[values > 0]
    if len(positive):
        highest = positive.max()
        axes.set_yscale("log")
        axes.set_ylim(max(positive.min(), highest / 10**_DECADES) / 1.2, highest * 1.2)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set(xlabel="iteration", ylabel="loss, logarithmic")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, title="loss, and its last value")


def _averaged(rows: Sequence[dict[str, str]], name: str) -> Curve:
    """Steps and means of equally many rows each, the last ones included."""
    parts = np.array_split(
        np.array([(float(row["iteration"]), float(row[name])) for row in rows]), min(len(rows), _POINTS)
    )
    means = np.array([part.mean(axis=0) for part in parts])
    return means[:, 0], means[:, 1]
