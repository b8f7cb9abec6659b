"""The one way to print a table."""

from __future__ import annotations

from typing import List, Sequence


def align(rows: Sequence[Sequence[str]], numbers: bool = True) -> List[str]:
    """Return the rows with their cells below each other.

    Args:
        rows: the heading first; all of one length.
        numbers: whether all columns but the first are set flush right.
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) if numbers else cell.ljust(width) for cell, width in zip(others, widths[1:])]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines
