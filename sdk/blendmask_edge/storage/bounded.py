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
_BLOCK = 2**20


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
        return read_stream(stream, most)


def read_stream(stream: BinaryIO, most: int) -> bytes:
    """Return what a file holds.

    Memory is taken for the bytes that the file has, not for `most`: a small machine refuses to lend gigabytes even if
    they are never used.

    Args:
        stream: an open file, at its start.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, or has more bytes.
    """
    size = os.fstat(stream.fileno()).st_size
    data = stream.read(size + 1) if size <= most else b""
    if len(data) > size:  # it grows, or its file system states no size
        data = _rest(stream, data, most)
    if max(size, len(data)) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes")
    return data


def _rest(stream: BinaryIO, start: bytes, most: int) -> bytes:
    """Return `start` and what follows it, up to a little more than `most` bytes."""
    read = bytearray(start)
    while len(read) <= most:
        block = stream.read(_BLOCK)
        if not block:
            break
        read += block
    return bytes(read)
