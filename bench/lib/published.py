"""Write the tables that documents quote from bench/results.

    python -m bench.lib.published        # writes the tables into the documents below

A table is between `<!-- table: NAME -->` and `<!-- end -->`; `bench.lib.tables.TABLES` renders it. If its times were
measured with an earlier protocol, a note below the table says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from bench.lib.study import has_current_timing, read_rows
from bench.lib.tables import TABLES, Rows

_ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    _ROOT / "README.md",
    _ROOT / "SECURITY.md",
    _ROOT / "docs" / "benchmark.md",
    _ROOT / "docs" / "models.md",
    _ROOT / "docs" / "quantize.md",
    _ROOT / "docs" / "robot.md",
    _ROOT / "docs" / "sensitivity.md",
    _ROOT / "docs" / "targets" / "README.md",
    _ROOT / "quantize" / "README.md",
    _ROOT / "examples" / "homescenes" / "MODEL_CARD.md",
)
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TIMED = {"ablations", "first_light", "gate", "shrink", "speed"}
_OUTDATED = "\n\n*The times were measured with an earlier protocol and are to be measured again.*"


def fill(
    text: str, rows_of: Callable[[str], Rows] = read_rows, is_current: Callable[[str], bool] = has_current_timing
) -> str:
    """Return `text` with its tables rendered.

    Args:
        text: Markdown of a document.
        rows_of: returns the rows of a study; empty if it has not been run.
        is_current: whether the times of a study were measured with the current protocol.
    """

    def render(match: re.Match[str]) -> str:
        rows = rows_of(match[2])
        table = TABLES[match[2]](rows) if rows else "Not measured yet."
        note = "" if match[2] not in _TIMED or is_current(match[2]) else _OUTDATED
        return f"{match[1]}{table}{note}\n{match[3]}"

    return _TABLE.sub(render, text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(fill(document.read_text(encoding="utf-8")), encoding="utf-8")
