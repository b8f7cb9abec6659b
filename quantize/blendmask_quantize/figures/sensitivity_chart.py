"""The sensitivity of layers and blocks as a chart: bars by falling change, masks and scores apart."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blendmask_edge.errors import DependencyError, install_command
from blendmask_edge.storage.atomic import write_bytes

MOST_BARS = 30
_MASKS, _SCORES, _SPURIOUS = "#0072B2", "#E69F00", "#CC79A7"
_BAR_HEIGHT = 0.24


@dataclass(frozen=True)
class Bar:
    """One layer or block.

    Attributes:
        name: beside the bar.
        macs_share: share of the multiply-accumulates, 0 to 1, printed behind the name.
        masks, scores, spurious: lengths of the parts of the bar.
    """

    name: str
    macs_share: float
    masks: float
    scores: float
    spurious: float


def check_matplotlib() -> None:
    """See that charts can be drawn.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise DependencyError(f"Charts need matplotlib. Type: {install_command('train')}")


def write_sensitivity_chart(path: Path, title: str, parts: Sequence[tuple[str, Sequence[Bar]]]) -> None:
    """Draw a chart with a panel for each part; the file appears whole or not at all.

    Args:
        path: of the PNG file.
        title: above all panels.
        parts: heading and bars of each panel, longest bar first; the first `MOST_BARS` are drawn.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    shown = [(heading, bars[:MOST_BARS], len(bars)) for heading, bars in parts]
    rows = max(len(bars) for _, bars, _ in shown)
    figure = Figure(figsize=(9 * len(shown), 1.6 + _BAR_HEIGHT * rows), layout="constrained")
    figure.suptitle(title)
    for axes, (heading, bars, count) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _draw(axes, bars)
        axes.set_title(heading if count == len(bars) else f"{heading}: {len(bars)} of {count}")
        axes.set_ylim(rows - 0.4, -0.6)
    image = io.BytesIO()
    figure.savefig(image, dpi=110, format="png")
    write_bytes(path, image.getvalue())


def _draw(axes: Any, bars: Sequence[Bar]) -> None:
    start = [0.0] * len(bars)
    for name, color in (("masks", _MASKS), ("scores", _SCORES), ("spurious", _SPURIOUS)):
        lengths = [getattr(bar, name) for bar in bars]
        axes.barh(range(len(bars)), lengths, left=start, color=color, label=name)
        start = [left + length for left, length in zip(start, lengths, strict=True)]
    axes.set_yticks(range(len(bars)), [f"{bar.name}  {bar.macs_share:.1%}" for bar in bars], fontsize=8)
    axes.set_xlabel("change when quantized alone: 1 - mask IoU + score difference + spurious instances")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right")
