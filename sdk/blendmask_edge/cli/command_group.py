"""The group of commands: errors in one message, and the workstation's commands found when they are typed.

A package adds commands by an entry point of the group `blendmask.commands`. The entry point has the name of the extra
that brings its dependencies, and leads to a function `register(app: typer.Typer) -> None`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import sys
from typing import Any, Dict, List, Optional, Tuple

import typer
from typer.core import TyperGroup
from typer.main import get_group

from blendmask_edge.cli.old_spellings import respell
from blendmask_edge.cli.output import drop_unwritable, flush, warn
from blendmask_edge.errors import BlendMaskError, DependencyError, OutputError, install_command

ENTRY_POINTS = "blendmask.commands"
FAILED = 1
INTERRUPTED = 130
WORKSTATION = "blendmask_quantize"
WORKSTATION_PYTHON = (3, 10)


class CommandGroup(TyperGroup):
    """Own commands first, then those of entry points, which are loaded only when no own command has the name."""

    def parse_args(self, ctx: Any, args: List[str]) -> List[str]:
        """Read the arguments, with those of an earlier release in today's spelling; none may be empty text.

        An empty path would be the current folder, and an empty text usually comes from a variable of a script that is
        not set.
        """
        _check_given(args)
        return super().parse_args(ctx, respell(args))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of this name, or None.

        Raises:
            DependencyError: the name is not ours, and a package that may have it cannot be imported here.
        """
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        added, ctx.meta[ENTRY_POINTS] = _find_added(cmd_name)
        mistyped = difflib.get_close_matches(cmd_name, super().list_commands(ctx))
        if added is None and not _workstation_loads() and not mistyped:
            raise DependencyError(_needs_newer_python(cmd_name))
        return added

    def list_commands(self, ctx: Any) -> List[str]:
        """Return all names that can be typed here; those of packages that cannot be imported are left out."""
        names = super().list_commands(ctx)
        for point in _entry_points():
            with contextlib.suppress(DependencyError):
                names.extend(name for name in _commands_of(point) if name not in names)
        return names

    def main(self, *words: Any, **options: Any) -> Any:
        """Run the command line; an error of the system ends it with one message, a reader that went away without."""
        try:
            try:
                return super().main(*words, **options)
            finally:
                flush()
        except BrokenPipeError as error:
            raise self._ended() from error
        except OutputError as error:
            raise self._ended(str(error)) from error
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise self._ended(
                f"{place}{error.strerror or error}. Check the path and its disk, and try again."
            ) from error

    def _ended(self, message: str = "") -> SystemExit:
        if message:
            warn(message)
        drop_unwritable()
        return SystemExit(FAILED)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; turn each error that is meant for the user into one message and an exit code."""
        try:
            return super().invoke(ctx)
        except BlendMaskError as error:
            warn(str(error))
            raise typer.Exit(error.exit_code) from error
        except ModuleNotFoundError as error:
            extra = ctx.meta.get(ENTRY_POINTS)
            if extra is None:
                raise
            missing = f"`blendmask {ctx.invoked_subcommand}` needs {error.name}, which is not installed."
            warn(f"{missing} Type: {install_command(extra)}")
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt as error:
            warn(str(error) or "interrupted")
            raise typer.Exit(INTERRUPTED) from error


def _check_given(words: List[str]) -> None:
    options = words[: words.index("--")] if "--" in words else words
    for position, word in enumerate(words):
        if word == "" or (position < len(options) and word.startswith("--") and word.endswith("=")):
            place = word[:-1] or " ".join(words[max(position - 1, 0) : position])
            raise typer.BadParameter(f"empty text after {place!r}: give a value, or leave the argument out")


def _find_added(name: str) -> Tuple[Any, Optional[str]]:
    """Return the command and the extra it came with, or (None, None)."""
    failure: Optional[DependencyError] = None
    for point in _entry_points():
        try:
            commands = _commands_of(point)
        except DependencyError as error:
            failure = failure or error
            continue
        if name in commands:
            return commands[name], point.name
    if failure is not None:
        raise failure
    return None, None


def _commands_of(point: Any) -> Dict[str, Any]:
    app = typer.Typer()
    try:
        point.load()(app)
    except ImportError as error:
        raise DependencyError(
            f"No command of this name is installed; the commands of blendmask-edge[{point.name}] need "
            f"{error.name or error}. Type: {install_command(point.name)}"
        ) from error
    return dict(get_group(app).commands)


def _entry_points() -> List[Any]:
    """Return the entry points that this Python can load."""
    installed: Any = importlib.metadata.entry_points()
    points = installed.select(group=ENTRY_POINTS) if hasattr(installed, "select") else installed.get(ENTRY_POINTS, ())
    return [point for point in points if _workstation_loads() or not point.value.startswith(WORKSTATION)]


def _workstation_loads() -> bool:
    return sys.version_info >= WORKSTATION_PYTHON


def _needs_newer_python(command: str) -> str:
    wanted, here = (".".join(map(str, version)) for version in (WORKSTATION_PYTHON, sys.version_info[:3]))
    return (
        f"`blendmask {command}` is not a command of the SDK, and commands that train, quantize or evaluate need "
        f"Python {wanted} or newer; this is {here}. Run it on a workstation, in an environment of Python {wanted} or "
        "newer, and bring the bundle here; `blendmask --help` lists what runs here."
    )
