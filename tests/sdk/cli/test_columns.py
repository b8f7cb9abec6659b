"""Cells of a printed table stand below each other."""

from __future__ import annotations

from blendmask_edge.cli.columns import align

ROWS = [["graph", "AP", "ms"], ["float", "61.2", "50"], ["int8", "9", "-"]]


def test_numbers_are_flush_right() -> None:
    assert align(ROWS) == ["graph    AP  ms", "float  61.2  50", "int8      9   -"]


def test_text_is_flush_left_and_no_line_ends_in_blanks() -> None:
    assert align(ROWS, numbers=False) == ["graph  AP    ms", "float  61.2  50", "int8   9     -"]
