"""The plot of a log: names and ticks that a reader knows, and no plot of nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from blendmask_edge.imaging import read_image
from blendmask_quantize.training.clock import Clock
from blendmask_quantize.training.curves import draw_curves
from blendmask_quantize.training.log import CsvLog


def write_log(folder: Path, steps: int, **last: float) -> Path:
    log = CsvLog(folder / "log.csv", 0, Clock())
    for step in range(steps):
        log.write(step, {name: value * (1 + 3 / (step + 1)) for name, value in last.items()})
    return folder / "log.csv"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn."""
    figure = pytest.importorskip("matplotlib.figure").Figure
    figures: list[Any] = []

    class Watched(figure):
        def savefig(self, *args: Any, **keywords: Any) -> None:
            figures.append(self)
            super().savefig(*args, **keywords)

    monkeypatch.setattr("matplotlib.figure.Figure", Watched)
    return figures


def test_losses_have_names_and_ticks_that_are_plain_numbers(tmp_path: Path, drawn: list[Any]) -> None:
    log = write_log(tmp_path, 450, loss_fcos_cls=0.4, loss_mask=0.2, distill_features=0.6, total=1.2)
    assert draw_curves(log, tmp_path / "curves.png") == tmp_path / "curves.png"
    assert read_image(tmp_path / "curves.png").shape[1] == 1100
    axes = drawn[0].axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["total  1.21", "teacher: features  0.604", "classes  0.403", "masks  0.201"]
    low, high = axes.get_ylim()
    ticks = [
        t.get_text() for t, value in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True) if low <= value <= high
    ]
    assert ticks == ["0.2", "0.5", "1", "2"]
    assert axes.get_xlabel() == "iteration"


def test_a_loss_of_almost_nothing_does_not_stretch_the_plot(tmp_path: Path, drawn: list[Any]) -> None:
    draw_curves(write_log(tmp_path, 20, loss_mask=1e-9, loss_dice=0.0, total=1.0), tmp_path / "curves.png")
    assert drawn[0].axes[0].get_ylim()[0] > 1e-4


def test_one_step_is_drawn(tmp_path: Path, drawn: list[Any]) -> None:
    assert draw_curves(write_log(tmp_path, 1, total=1.0), tmp_path / "curves.png") is not None
    assert drawn


def test_without_matplotlib_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert draw_curves(write_log(tmp_path, 3, total=1.0), tmp_path / "curves.png") is None


@pytest.mark.parametrize("content", [None, "", "iteration,seconds,total\n", "iteration,seconds,total\n0,1,x\n"])
def test_without_a_step_nothing_is_drawn(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "log.csv").write_text(content)
    assert draw_curves(tmp_path / "log.csv", tmp_path / "curves.png") is None
