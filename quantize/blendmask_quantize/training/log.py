"""The losses of a run while it goes on: as CSV, and for TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blendmask_edge.errors import DependencyError
from blendmask_edge.storage.atomic import output_error
from blendmask_quantize.training.clock import Clock

LOG_FILE = "log.csv"
TENSORBOARD_FOLDER = "tensorboard"


class CsvLog:
    """CSV of the losses, a row a step, with the seconds trained so far; rows past the point of resuming are dropped.

    Args:
        path: the file, begun anew where `start` is 0 or it is gone.
        start: the first step that will be written.
        clock: tells the seconds.
    """

    def __init__(self, path: Path, start: int, clock: Clock) -> None:
        earlier = [row for row in read_log(path) if int(row["iteration"]) < start] if start else []
        self.path, self.clock, self.empty = path, clock, not earlier
        with path.open("w", newline="") as file:
            if earlier:
                writer = csv.DictWriter(file, list(earlier[0]))
                writer.writeheader()
                writer.writerows(earlier)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append the row of a step.

        Raises:
            OutputError: it cannot be written.
        """
        row = [step, f"{self.clock.seconds:.1f}", *(f"{value:.5f}" for value in numbers.values())]
        try:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerows([["iteration", "seconds", *numbers], row] if self.empty else [row])
        except OSError as error:
            raise output_error(self.path, error) from error
        self.empty = False


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


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a log: a run that was killed may leave half a row, or none; nor need there be a log."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if _is_whole(row)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _is_whole(row: dict[Any, Any]) -> bool:
    """Whether a row has a number for each column."""
    if None in row or None in row.values() or not {"iteration", "seconds"} <= row.keys():
        return False
    try:
        return int(row["iteration"]) >= 0 and all(map(_is_number, row.values()))
    except ValueError:
        return False


def _is_number(text: str) -> bool:
    float(text)
    return True
