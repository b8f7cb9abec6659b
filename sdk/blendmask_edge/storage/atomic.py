"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
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
        OutputError: the folder is missing or read-only, the disk is full, or `path` is a folder.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise OutputError(f"{target} is a folder; give the name of a file to write.")
        with becoming(str(target)) as stream:
            yield stream
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
    return OutputError(f"Cannot write {path}: {reason}. Choose a folder that exists, is writable and has room.")
