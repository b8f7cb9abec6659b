"""Write a page as Markdown: text and tables, for a pull request or the summary of a pipeline."""

from __future__ import annotations

import re
from typing import Iterator, List

from blendmask_edge.report.page import Block, Charts, Overlays, Page, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~])")


def render_markdown(page: Page) -> str:
    """Return a page as Markdown; charts are left out, and of overlays the text stays."""
    lines = [f"# {_escape(page.title)}", ""]
    for line in page.lines:
        lines += [_escape(line), ""]
    if page.figures:
        lines += [", ".join(f"**{_escape(figure.value)}** {_escape(figure.label)}" for figure in page.figures), ""]
    for section in page.sections:
        texts = [list(_block(block)) for block in section.blocks if not isinstance(block, Charts)]
        if texts:
            lines += [f"## {_escape(section.title)}", ""]
            lines += [line for text in texts for line in (*text, "")]
    return "\n".join(lines).rstrip() + "\n"


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, str):
        yield _escape(block)
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Overlays):
        for overlay in block.overlays:
            yield f"- {_escape(overlay.name)}: {_escape('; '.join(text for _, text in overlay.changes))}"


def _table(table: Table) -> Iterator[str]:
    if not table.rows:
        return
    headings = list(table.headings) or [""] * len(table.rows[0])
    yield _row(headings)
    yield "|" + "|".join(["---"] + ["---:" if table.numbers else "---"] * (len(headings) - 1)) + "|"
    for row in table.rows:
        yield _row(list(row))


def _row(cells: List[str]) -> str:
    return "| " + " | ".join(map(_escape, cells)) + " |"


def _escape(text: str) -> str:
    plain = "".join(character if character.isprintable() else " " for character in text)
    return _SPECIAL.sub(r"\\\1", plain).replace("<", "&lt;").replace(">", "&gt;")
