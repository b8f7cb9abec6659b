"""What a run writes while it goes on: losses as CSV, for TensorBoard, and as a plot at the end."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blendmask_edge.errors import DependencyError

LOG_FILE = "log.csv"
PLOT_FILE = "curves.png"
TENSORBOARD_FOLDER = "tensorboard"

_POINTS = 200  # of a plotted curve, each the mean of its share of the steps


class CsvLog:
    """CSV of the losses, a row a step, with the seconds trained so far; rows past the point of resuming are dropped.

    Args:
        path: the file, begun anew where `start` is 0.
        start: the first step that will be written.
    """

    def __init__(self, path: Path, start: int) -> None:
        kept = [row for row in _read(path) if int(row["iteration"]) < start] if start and path.exists() else []
        self.path, self.empty = path, not kept
        self.before, self.began = float(kept[-1]["seconds"]) if kept else 0.0, time.monotonic()
        with path.open("w", newline="") as file:
            if kept:
                writer = csv.DictWriter(file, list(kept[0]))
                writer.writeheader()
                writer.writerows(kept)

    @property
    def seconds(self) -> float:
        """Trained so far, without what was lost when a run was cut off."""
        return self.before + time.monotonic() - self.began

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append the row of a step."""
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if self.empty:
                writer.writerow(["iteration", "seconds", *numbers])
                self.empty = False
            writer.writerow([step, f"{self.seconds:.1f}", *(f"{value:.5f}" for value in numbers.values())])


class TensorBoardLog:
    """The losses as TensorBoard's scalars, under `train/`.

    Args:
        folder: where its event files go.
        start: the first step that will be written; older files' later steps are hidden.

    Raises:
        DependencyError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, start: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise DependencyError(
                "TensorBoard is not installed: pip install tensorboard, or leave --tensorboard out; log.csv holds the "
                "same numbers"
            ) from error
        self.writer: Any = SummaryWriter(str(folder), purge_step=start)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add the scalars of a step."""
        for name, value in numbers.items():
            self.writer.add_scalar(f"train/{name}", value, step)
        self.writer.flush()


def logged_seconds(path: Path) -> float:
    """Time trained until the last row of a log."""
    return float(_read(path)[-1]["seconds"])


def draw_curves(log: Path, path: Path) -> Path | None:
    """Draw the losses of a log as a PNG; None where matplotlib is not installed.

    Args:
        log: file of a `CsvLog`.
        path: the image.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    rows = _read(log)
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for name in [name for name in rows[0] if name not in ("iteration", "seconds")]:
        axes.plot(*_averaged(rows, name), label=name, linewidth=2 if name == "total" else 1)
    axes.set(xlabel="iteration", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
    return path


def _read(path: Path) -> list[dict[str, str]]:
    """The whole rows of a log: a run that was killed may leave half a row, or two headers of older versions."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        return [row for row in rows if row["iteration"].isdigit() and None not in row and None not in row.values()]


def _averaged(rows: list[dict[str, str]], name: str) -> tuple[list[float], list[float]]:
    width = max(1, len(rows) // _POINTS)
    parts = [rows[first : first + width] for first in range(0, len(rows) - width + 1, width)]
    steps = [sum(float(row["iteration"]) for row in part) / len(part) for part in parts]
    return steps, [sum(float(row[name]) for row in part) / len(part) for part in parts]
