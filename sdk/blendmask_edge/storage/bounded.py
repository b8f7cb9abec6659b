"""Open and read regular files: nothing hangs on a pipe, or reads a device to its end."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""A FIFO is opened without waiting for a writer, and refused by what it is."""


def open_regular(path: PathLike) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    Raises:
        OSError: it cannot be opened, or is a folder, device or pipe.
    """
    descriptor = os.open(path, _FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a file")
    return os.fdopen(descriptor, "rb")


def read_bounded(path: PathLike, most: int) -> bytes:
    """Return the bytes of a file.

    Args:
        path: a regular file, or a link to one.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, is a folder, device or pipe, or has more bytes.
    """
    with open_regular(path) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes")
    return data
