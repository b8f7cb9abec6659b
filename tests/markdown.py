"""Read Markdown tables, so that a test can ask what a row says instead of how it is worded."""

from __future__ import annotations

from typing import List


def table_rows(text: str) -> List[List[str]]:
    """Return the cells of each row of the tables in `text`, without heads and the lines below them.

    Raises:
        AssertionError: the rows of a table have not all as many cells as its head.
    """
    rows: List[List[str]] = []
    head: List[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells or not head:
            head = cells
        elif any(set(cell) != {"-"} for cell in cells):
            assert len(cells) == len(head), line
            rows.append(cells)
    return rows


def row_of(text: str, *words: str) -> str:
    """Return the one row whose text contains all `words`, its cells separated by " | ".

    Raises:
        AssertionError: there is no such row, or there are several.
    """
    (row,) = [row for row in map(" | ".join, table_rows(text)) if all(word in row for word in words)]
    return row
