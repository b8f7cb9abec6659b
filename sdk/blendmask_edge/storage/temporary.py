"""Temporary files that become the real ones, and that a later writer takes over where a killed one left them.

A writer holds a lock on its temporary file as long as it lives. The names are few and fixed, so that the next writer of
the same file meets what a killed one left, finds it unlocked, and writes over it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import uuid
from pathlib import Path
from typing import BinaryIO, Iterator, Optional, Tuple

try:
    import fcntl
except ImportError:  # of Windows, where names are random and nothing is taken over
    fcntl = None  # type: ignore[assignment]

TEMPORARY_SUFFIX = ".part"
SLOTS = 16
"""Writers of one file at a time whose temporary files have fixed names; any more get random ones."""
_MOST_NAME_BYTES = 200
_PREFIX, _OF_OTHERS = "blendmask-", 0o077
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_SURPRISES = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_IN_USE = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO)
"""Error numbers of opening or locking a file of another user, or one that is not regular."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class _NoLocks(Exception):
    """The file system has no locks."""


@contextlib.contextmanager
def becoming(name: str, mode: int = 0o666, dir_fd: Optional[int] = None) -> Iterator[BinaryIO]:
    """Open a temporary file beside `name`, flush it to disk and rename it to `name` when the block ends well.

    When the block fails, the temporary file is removed and an older file at `name` stays as it was.

    Args:
        name: path of the file.
        mode: of a new file, from which the umask takes.
        dir_fd: the folder that `name` is relative to.

    Raises:
        OSError: the file cannot be made, written or renamed.
    """
    stream, temporary = _claim(name, mode, dir_fd)
    with stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if fcntl is None:
                stream.close()  # before the rename, as Windows wants it
            os.replace(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except BaseException:
            with contextlib.suppress(OSError):  # while the lock is held: without it the name may be another writer's
                if fcntl is None:
                    stream.close()
                os.unlink(temporary, dir_fd=dir_fd)
            raise


def _claim(name: str, mode: int, dir_fd: Optional[int]) -> Tuple[BinaryIO, str]:
    """Return an empty temporary file that no other writer has, and its name."""
    path = Path(name)
    stem = os.fsdecode(os.fsencode(path.name)[:_MOST_NAME_BYTES])
    with contextlib.suppress(_NoLocks):
        for slot in range(SLOTS if fcntl is not None else 0):
            temporary = str(path.with_name(f".{stem}.{slot}{TEMPORARY_SUFFIX}"))
            descriptor = _locked(temporary, mode, dir_fd)
            if descriptor is not None:
                return os.fdopen(descriptor, "w+b"), temporary
    temporary = str(path.with_name(f".{stem}.{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}"))
    return os.fdopen(os.open(temporary, _FLAGS | os.O_EXCL, mode, dir_fd=dir_fd), "w+b"), temporary


def _locked(temporary: str, mode: int, dir_fd: Optional[int]) -> Optional[int]:
    """Open and lock a temporary file, new or left behind; None where another has it, or it is not ours."""
    try:
        descriptor = os.open(temporary, _FLAGS | _NO_SURPRISES, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _IN_USE:
            return None
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_ours(descriptor, temporary, dir_fd):
            os.ftruncate(descriptor, 0)
            return descriptor
    except OSError as error:
        os.close(descriptor)
        if error.errno in _NO_LOCKS:
            os.unlink(temporary, dir_fd=dir_fd)
            raise _NoLocks from error
        if error.errno in (*_IN_USE, errno.ENOENT):
            return None
        raise
    os.close(descriptor)
    return None


def _is_ours(descriptor: int, temporary: str, dir_fd: Optional[int]) -> bool:
    """Whether the locked file is a regular one of this user alone, and still has the name it was opened by."""
    status = os.fstat(descriptor)
    here = os.stat(temporary, dir_fd=dir_fd, follow_symlinks=False)
    is_plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()
    return is_plain and os.path.samestat(status, here)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make an empty folder of this user alone where the system keeps temporary files, and remove it at the end.

    It lies in a folder of the user's own, so that a later run meets what a killed one left, and removes it. Where
    another user has taken the name of that folder, a random one is used.

    Raises:
        OSError: it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        own = _enter_own_folder(stack) if fcntl is not None else None
        yield own or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX)))


def _enter_own_folder(stack: contextlib.ExitStack) -> Optional[Path]:
    """Return an empty folder in that of this user, which nobody else may enter; None where somebody may."""
    place = Path(tempfile.gettempdir()) / f"{_PREFIX}{os.geteuid()}"
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
        status = place.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & _OF_OTHERS:
            stack.callback(_remove_empty, place)
            return stack.enter_context(temporary_folder(place))
    return None


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process may have a folder in it
        folder.rmdir()


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Make an empty folder in `parent`, which must exist, and remove it with all that is in it when the block ends.

    Raises:
        OSError: it cannot be made.
    """
    folder, descriptor = _claim_folder(parent)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # some errors come through `ignore_errors`
            shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def _claim_folder(parent: Path) -> Tuple[Path, Optional[int]]:
    """Return an empty folder that no other process has, and the descriptor that holds its lock."""
    with contextlib.suppress(_NoLocks):
        for slot in range(SLOTS if fcntl is not None else 0):
            folder = parent / f".{slot}{TEMPORARY_SUFFIX}"
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            descriptor = _locked_folder(folder)
            if descriptor is not None:
                _empty(folder, descriptor)
                return folder, descriptor
    folder = parent / f".{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}"
    folder.mkdir(mode=0o700)
    return folder, None


def _empty(folder: Path, descriptor: int) -> None:
    """Remove what is in a locked folder; release the lock where that fails."""
    try:
        for left in list(folder.iterdir()):
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    except OSError:
        os.close(descriptor)
        raise


def _locked_folder(folder: Path) -> Optional[int]:
    """Open and lock a folder, new or left behind; None where another has it, or it is not ours."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status, here = os.fstat(descriptor), folder.lstat()
        if status.st_uid == os.geteuid() and os.path.samestat(status, here):
            return descriptor
    except OSError as error:
        if error.errno in _NO_LOCKS:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                folder.rmdir()
            raise _NoLocks from error
    os.close(descriptor)
    return None
