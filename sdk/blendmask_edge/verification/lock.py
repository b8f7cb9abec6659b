"""One verification in a folder at a time: two would keep each other's rows, and disturb each other's measurements."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Iterator

from blendmask_edge.errors import ConfigError
from blendmask_edge.storage.atomic import output_error

try:
    import fcntl
except ImportError:  # of Windows, which no device of the table runs
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which exists. The system releases it with the process, however that ends.

    Raises:
        ConfigError: another process holds it.
        OutputError: the lock file cannot be written.
    """
    if fcntl is None:
        yield
        return
    try:
        descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        _take(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        by = f" (process {owner})" if owner else ""
        raise ConfigError(
            f"Another verification{by} works in {folder}. Wait for its end and type the same command again; two at "
            "once would disturb each other's times, also in different folders."
        ) from None
    except OSError:  # file systems without locks
        return
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
