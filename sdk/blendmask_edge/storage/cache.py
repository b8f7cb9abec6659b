"""The cache: files that can be made again, such as engines, in a folder that only this user can write.

Loading an engine runs code, so whoever can write here controls the process. Nothing is trusted: each level of the path
must belong to this user or to root and be writable by no other, no link below the cache folder is followed, only
regular files are read, and each begins with a SHA-256 of its name and content.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

from blendmask_edge.errors import OutputError
from blendmask_edge.storage.atomic import output_error
from blendmask_edge.storage.temporary import TEMPORARY_SUFFIX, becoming

CACHE_VARIABLE = "BLENDMASK_CACHE"
_FOLDER_NAME = "blendmask-edge"
_DIGEST_BYTES = 32
_MOST_BYTES = 2**32
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LOG = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the cache folder, which need not exist yet.

    It is `$BLENDMASK_CACHE`, else `$XDG_CACHE_HOME/blendmask-edge`, else `~/.cache/blendmask-edge`. A relative
    `$XDG_CACHE_HOME` is passed over, as the XDG specification demands.

    Raises:
        OutputError: there is no home folder and the variable is not set.
    """
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / _FOLDER_NAME
    try:
        return Path.home() / ".cache" / _FOLDER_NAME
    except RuntimeError as error:
        raise OutputError(f"No home folder to keep a cache in. Set {CACHE_VARIABLE} to a folder.") from error


class Cache:
    """One folder of files, each under a name that says all its content depends on."""

    def __init__(self, base: Path, name: str = "") -> None:
        """Take a folder, which is made when the first file is written.

        Args:
            base: the cache folder; links above it are followed, itself must not be one.
            name: of a folder in it; none for the cache folder itself.
        """
        self._base = Path(os.path.normpath(Path.cwd() / base))
        self._name = name
        self.folder = self._base / name

    @classmethod
    def of_machine(cls, name: str) -> Cache:
        """Return the cache `name` in `cache_folder()`.

        Raises:
            OutputError: as `cache_folder`.
        """
        return cls(cache_folder(), name)

    def path(self, name: str) -> Path:
        """Return the path of the file `name`, which need not exist."""
        return self.folder / name

    def read(self, name: str) -> Optional[bytes]:
        """Return the content written as `name`; None if there is nothing, or not what was written.

        A folder that others can write is passed over with a warning, once.
        """
        try:
            with self._opened() as folder:
                content = _read_regular(folder, name)
        except OutputError as error:
            _warn_once(str(error))
            return None
        except OSError:
            return None
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if digest != _digest(name, data):
            _LOG.warning("%s is damaged or was not written by blendmask-edge; it is made again.", self.path(name))
            return None
        return data

    def write(self, name: str, data: bytes) -> Path:
        """Write a file, whole or not at all, and return its path. Folders are made for this user alone.

        Raises:
            OutputError: the folder cannot be made or written to, or others can write to it.
        """
        try:
            with self._opened(make=True) as folder:
                _write_replacing(folder, name, _digest(name, data) + data)
        except OSError as error:
            raise output_error(self.path(name), error) from error
        return self.path(name)

    def keep(self, name: str, data: bytes) -> None:
        """Write a file that a run can do without: where `write` would raise, warn once."""
        try:
            self.write(name, data)
        except OutputError as error:
            _warn_once(f"Nothing is kept for the next start: {error}")

    def check(self) -> None:
        """Refuse a folder that `write` would refuse, before long work whose result it shall hold; leaves nothing.

        Raises:
            OutputError: as `write`.
        """
        try:
            with contextlib.suppress(FileNotFoundError), self._opened():
                pass
            there = next(path for path in (self.folder, *self.folder.parents) if os.path.isdir(path))
            with tempfile.TemporaryFile(dir=there) as stream:
                stream.write(b"0")
        except OSError as error:
            raise output_error(self.folder, error) from error

    def names(self) -> List[str]:
        """Return the names of the regular files, the newest first; none where the folder is missing or not ours."""
        dated: List[Tuple[int, str]] = []
        with contextlib.suppress(OSError, OutputError), self._opened() as folder, os.scandir(folder) as entries:
            files = [entry for entry in entries if not entry.name.endswith(TEMPORARY_SUFFIX)]
            regular = [entry for entry in files if entry.is_file(follow_symlinks=False)]
            dated = [(entry.stat(follow_symlinks=False).st_mtime_ns, entry.name) for entry in regular]
        return [name for _, name in sorted(dated, reverse=True)]

    @contextlib.contextmanager
    def _opened(self, make: bool = False) -> Iterator[int]:
        """Open the folder level by level from the root, each checked and held open, so that none can be swapped.

        Links above the cache folder are resolved first: they lie in levels that only this user or root can write.
        """
        above = Path(os.path.realpath(self._base.parent)).parts[1:]
        own = [part for part in (self._base.name, self._name) if part]
        path, current = Path("/"), os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for depth, level in enumerate([*above, *own]):
                path = path / level
                below = _open_level(current, path, make)
                os.close(current)
                current = below
                _check_level(path, os.fstat(current), is_own=depth >= len(above))
            yield current
        finally:
            os.close(current)


def _digest(name: str, data: bytes) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape") + b"\0" + data).digest()


def _open_level(parent: int, path: Path, make: bool) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if make and not path.exists():
        with contextlib.suppress(FileExistsError):  # another process was quicker, or it is a link to nothing
            os.mkdir(path.name, 0o700, dir_fd=parent)
            os.chmod(path.name, 0o700, dir_fd=parent)  # the umask may have taken from the owner, too
    try:
        return os.open(path.name, flags, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and path.is_symlink():
            raise OutputError(
                f"{path} is a link, and no link within a cache is followed. Remove it, or set {CACHE_VARIABLE} to the "
                "folder that it leads to."
            ) from error
        raise


def _check_level(path: Path, entry: os.stat_result, is_own: bool) -> None:
    """Refuse a level in which another user could put or replace something.

    In a sticky folder such as /tmp nobody else can replace our files, so one may lie above the cache folder.
    """
    user = os.geteuid()
    if entry.st_uid not in (user, 0):
        raise OutputError(
            f"{path} belongs to user {entry.st_uid}, so that it cannot hold a cache of user {user}. Type: "
            f"chown {user} {path}  (or set {CACHE_VARIABLE} to a folder of your own)."
        )
    if entry.st_mode & _OTHERS_WRITE and (is_own or not entry.st_mode & stat.S_ISVTX):
        raise OutputError(
            f"{path} can be written by other users (mode {stat.S_IMODE(entry.st_mode):o}), who could change the "
            f"results of the network. Type: chmod go-w {path}  (or set {CACHE_VARIABLE} to a folder of your own)."
        )


def _read_regular(folder: int, name: str) -> bytes:
    """Read a file; raise OSError for links, devices and FIFOs, which are opened without waiting for a writer."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as stream:
        entry = os.fstat(descriptor)
        is_own = entry.st_uid in (os.geteuid(), 0) and not entry.st_mode & _OTHERS_WRITE
        if not stat.S_ISREG(entry.st_mode) or not is_own or entry.st_size > _MOST_BYTES:
            raise OSError(f"{name} is not a regular file that only this user can write")
        return stream.read(entry.st_size)


def _write_replacing(folder: int, name: str, data: bytes) -> None:
    with becoming(name, 0o600, folder) as stream:
        os.fchmod(stream.fileno(), 0o600)  # whatever the umask took
        stream.write(data)


@lru_cache(maxsize=64)
def _warn_once(message: str) -> None:
    _LOG.warning("%s", message)
