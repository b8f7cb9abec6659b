"""The tables that documents quote, rendered from bench/results.

    python -m bench.published        # writes them into README.md

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; `TABLES` says how NAME is rendered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.study import read_rows

Rows = Mapping[str, Mapping[str, Any]]
README = Path(__file__).parents[1] / "README.md"
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def first_light_table(rows: Rows) -> str:
    """Accuracy and latency of the shipped model, float against INT8."""
    lines = [
        "| graph | mask AP, unseen objects | mask AP, seen objects | latency p50 | against float |",
        "|---|---|---|---|---|",
    ]
    for name in ("float", "int8"):
        val, seen = rows[f"{name}/val"], rows[f"{name}/val_seen"]
        accuracy = f"{100 * val['mask_ap']:.1f} | {100 * seen['mask_ap']:.1f}"
        lines.append(f"| {name} | {accuracy} | {val['latency_p50_ms']:.0f} ms | {val['speedup_vs_float']:.2f} x |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[Rows], str]] = {"first_light": first_light_table}


def fill(text: str, rows_of: Callable[[str], Rows] = read_rows) -> str:
    """Return `text` with each table rendered anew; one whose study has not been run says so."""

    def render(match: re.Match[str]) -> str:
        rows = rows_of(match[2])
        table = TABLES[match[2]](rows) if rows else "Not measured yet."
        return f"{match[1]}{table}\n{match[3]}"

    return _TABLE.sub(render, text)


if __name__ == "__main__":
    README.write_text(fill(README.read_text(encoding="utf-8")), encoding="utf-8")
