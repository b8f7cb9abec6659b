"""Print lines, JSON and progress."""

from __future__ import annotations

import sys
from typing import Any, Iterable, Sequence, TypeVar

import typer

Item = TypeVar("Item")


def print_lines(lines: Iterable[str]) -> None:
    """Print each line on stdout."""
    for line in lines:
        typer.echo(line)


def print_json(document: Any) -> None:
    """Print a document as one line of JSON on stdout; what JSON has no type for becomes its `str`."""
    import msgspec

    typer.echo(msgspec.json.encode(document, enc_hook=str).decode())


def tracked(items: Sequence[Item], doing: str) -> Iterable[Item]:
    """Return `items`, with a progress bar on stderr while they are iterated if stderr is a terminal."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, doing, console=Console(stderr=True), transient=True)
