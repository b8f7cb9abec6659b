"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, Iterator, Union

from blendmask_edge.errors import OutputError
from blendmask_edge.storage.temporary import becoming

PathLike = Union[str, "os.PathLike[str]"]


@contextlib.contextmanager
def replacing(path: PathLike) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` and rename it to `path` when the block ends well.

    When the block fails, the temporary file is removed and an older file at `path` stays as it was.

    Raises:
        OutputError: the folder is missing or read-only, the disk is full, or `path` is a folder, a device or a pipe.
    """
    target = Path(path)
    try:
        _check_name(target)
        with becoming(str(target)) as stream:
            yield stream
    except OSError as error:
        raise output_error(target, error) from error


def check_writable(path: PathLike) -> None:
    """See before long work that a file can be written to `path`.

    Raises:
        OutputError: as `replacing`.
    """
    target = Path(path)
    try:
        _check_name(target)
        with tempfile.TemporaryFile(dir=target.parent) as stream:
            stream.write(b"0")
    except OSError as error:
        raise output_error(target, error) from error


def write_bytes(path: PathLike, data: bytes) -> None:
    """Write `data` to `path` by `replacing`.

    Raises:
        OutputError: as `replacing`.
    """
    with replacing(path) as stream:
        stream.write(data)


def output_error(path: Path, error: OSError) -> OutputError:
    """Say in one message why `path` could not be written."""
    reason = error.strerror or str(error) or type(error).__name__
    advice = "Choose a folder that exists, is writable and has room."
    if error.errno == errno.ENAMETOOLONG:
        advice = "Choose a shorter one."
    return OutputError(f"Cannot write {path}: {reason}. {advice}")


def _check_name(target: Path) -> None:
    """Raise OSError where no file can have this name, and OutputError where something that is not a file has it."""
    with contextlib.suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if stat.S_ISDIR(mode):
            raise OutputError(f"{target} is a folder; give the name of a file to write.")
        if not stat.S_ISREG(mode):  # renaming would remove it, even /dev/null if root asks
            raise OutputError(f"{target} is a device, pipe or socket; give the name of a file to write.")
