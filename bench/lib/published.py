"""The tables that documents quote, rendered from bench/results.

    python -m bench.lib.published        # writes them into the documents below

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; `bench.lib.tables.TABLES` says how NAME is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from bench.lib.study import read_rows
from bench.lib.tables import TABLES, Rows

_ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    _ROOT / "README.md",
    _ROOT / "SECURITY.md",
    _ROOT / "docs" / "benchmark.md",
    _ROOT / "docs" / "quantize.md",
    _ROOT / "docs" / "targets" / "README.md",
    _ROOT / "quantize" / "README.md",
    _ROOT / "examples" / "homescenes" / "MODEL_CARD.md",
)
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str, rows_of: Callable[[str], Rows] = read_rows) -> str:
    """Return `text` with each table rendered anew; one whose study has not been run says so."""

    def render(match: re.Match[str]) -> str:
        rows = rows_of(match[2])
        table = TABLES[match[2]](rows) if rows else "Not measured yet."
        return f"{match[1]}{table}\n{match[3]}"

    return _TABLE.sub(render, text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(fill(document.read_text(encoding="utf-8")), encoding="utf-8")
