"""Write the tables that documents quote from bench/results.

    python -m bench.lib.published        # writes the tables into the documents below

A table is between `<!-- table: NAME -->` and `<!-- end -->`; `bench.lib.tables.TABLES` renders it. A note below
the table says if its times were measured with an earlier protocol, or its graphs were those of an earlier version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.lib.study import has_current_graphs, has_current_timing, read_rows
from bench.lib.tables import TABLES, Rows

_ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    _ROOT / "README.md",
    _ROOT / "SECURITY.md",
    _ROOT / "docs" / "benchmark.md",
    _ROOT / "docs" / "comparison.md",
    _ROOT / "docs" / "models.md",
    _ROOT / "docs" / "quantize.md",
    _ROOT / "docs" / "robot.md",
    _ROOT / "docs" / "scale.md",
    _ROOT / "docs" / "sensitivity.md",
    _ROOT / "docs" / "targets" / "README.md",
    _ROOT / "quantize" / "README.md",
    _ROOT / "examples" / "homescenes" / "MODEL_CARD.md",
)
_PARAGRAPH = "\n\n"
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_STUDIES = {
    "outside": "robot", "peers_settings": "peers", "peers_summary": "peers", "robot_faults": "robot",
    "shrink_choices": "shrink",
}  # fmt: skip
"""Study of a table, where it has another name."""
_TIMED = {"ablations", "first_light", "frame", "gate", "paper", "peers", "shrink", "speed"}
_QUANTIZED = {
    "accuracy",
    "agreement",
    "arithmetic",
    "estimate",
    "first_light",
    "frame",
    "gate_accuracy",
    "peers",
    "refinements",
    "saturation",
    "shrink",
    "speed",
    "targets",
}


def notes_on(study: str) -> list[str]:
    """Return what a reader must know of results that are older than the code."""
    notes = []
    if study in _TIMED and not has_current_timing(study):
        notes.append("*The times were measured with an earlier protocol and are to be measured again.*")
    if study in _QUANTIZED and not has_current_graphs(study):
        notes.append(
            "*Measured with INT8 graphs of an earlier version, whose predictors were float; to be measured again.*"
        )
    return notes


def fill(
    text: str, rows_of: Callable[[str], Rows] = read_rows, notes_of: Callable[[str], Sequence[str]] = notes_on
) -> str:
    """Return `text` with its tables rendered.

    Args:
        text: Markdown of a document.
        rows_of: returns the rows of a study; empty if it has not been run.
        notes_of: returns the notes below the table of a study.
    """

    def render(match: re.Match[str]) -> str:
        study = _STUDIES.get(match[2], match[2])
        rows = rows_of(study)
        parts = [TABLES[match[2]](rows), *notes_of(study)] if rows else ["Not measured yet."]
        return f"{match[1]}{_PARAGRAPH.join(parts)}\n{match[3]}"

    return _TABLE.sub(render, text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(fill(document.read_text(encoding="utf-8")), encoding="utf-8")
