"""Print lines, JSON and progress; no name can break the terminal or the output."""

from __future__ import annotations

import sys
from typing import Any, Iterable, Sequence, TypeVar

import typer

Item = TypeVar("Item")


def say(line: str) -> None:
    """Print a line on stdout."""
    typer.echo(printable(line))


def warn(message: str) -> None:
    """Print an error on stderr."""
    typer.secho("error: ", fg=typer.colors.RED, err=True, nl=False)
    typer.echo(printable(message), err=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print each line on stdout."""
    for line in lines:
        say(line)


def print_json(document: Any) -> None:
    """Print a document as one line of JSON on stdout; what JSON has no type for becomes its `str`."""
    typer.echo(encode_json(document).decode())


def encode_json(document: Any) -> bytes:
    """Return a document as JSON; bytes of a file name that are not UTF-8 become lone surrogates, `\\udcXX`."""
    import msgspec

    try:
        return msgspec.json.encode(document, enc_hook=str)
    except UnicodeEncodeError:
        import json

        return json.dumps(msgspec.to_builtins(document, enc_hook=str)).encode("ascii")


def printable(text: str) -> str:
    """Return a text with escapes in the place of what would move the cursor or cannot be encoded."""
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )


def one_line(text: str) -> str:
    """Return a text from a file, such as a name, with escapes for line breaks too, lest it pass for a line of ours."""
    return printable(text).replace("\n", "\\n")


def tracked(items: Sequence[Item], doing: str) -> Iterable[Item]:
    """Return `items`, with a progress bar on stderr while they are iterated if stderr is a terminal."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, doing, console=Console(stderr=True), transient=True)
