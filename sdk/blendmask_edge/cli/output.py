"""Print lines, JSON and progress; no name can break the terminal or the output."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Sequence, TypeVar

import typer

from blendmask_edge.errors import OutputError

Item = TypeVar("Item")


def say(line: str) -> None:
    """Print a line on stdout.

    Raises:
        OutputError: stdout takes no more, e.g. a file on a full disk.
        BrokenPipeError: its reader has gone.
    """
    _print(printable(line))


def warn(message: str) -> None:
    """Print an error on stderr; where that fails, the exit code has to do."""
    with contextlib.suppress(OSError):
        typer.secho("error: ", fg=typer.colors.RED, err=True, nl=False)
        typer.echo(printable(message), err=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print each line on stdout."""
    for line in lines:
        say(line)


def print_json(document: Any) -> None:
    """Print a document as one line of JSON on stdout; what JSON has no type for becomes its `str`.

    Raises:
        OutputError, BrokenPipeError: as `say`.
    """
    _print(encode_json(document).decode())


def flush() -> None:
    """Pass on what stdout holds back, while an error of it can still be said.

    Raises:
        OutputError, BrokenPipeError: as `say`.
    """
    if sys.stdout is not None:
        with _printing():
            sys.stdout.flush()


def drop_unwritable() -> None:
    """Drop what stdout and stderr hold and cannot write: Python would try again when it ends, and print a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with Path(os.devnull).open("w") as null, contextlib.suppress(OSError, ValueError):
                os.dup2(null.fileno(), stream.fileno())


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


def _print(text: str) -> None:
    with _printing():
        typer.echo(text)


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_unwritable()
        raise OutputError(f"Cannot print to stdout: {error.strerror or error}.") from error


def tracked(items: Sequence[Item], doing: str) -> Iterable[Item]:
    """Return `items`, with a progress bar on stderr while they are iterated if stderr is a terminal."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, doing, console=Console(stderr=True), transient=True)


@contextlib.contextmanager
def counted(total: int, doing: str) -> Iterator[Callable[[], None]]:
    """Give a function to call after each of `total` steps, for a progress bar on stderr if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda: progress.advance(task)
