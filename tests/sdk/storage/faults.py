"""Torture: let the n-th call to the file system fail, for every n, in whatever reads or writes files."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any, Callable, Iterator, List, Optional

import pytest

CALLS = (
    "os.open", "os.fstat", "os.stat", "os.lstat", "os.fsync", "os.replace", "os.unlink", "os.ftruncate", "os.mkdir",
    "os.chmod", "os.fchmod", "os.scandir", "fcntl.flock",
)  # fmt: skip
_STREAM_CALLS = ("read", "write", "seek", "tell", "flush")


class Faults:
    """Counts calls to the file system and lets one of them fail.

    failing: number of the call that fails, from 1; None lets none fail.
    calls: what was called so far.
    """

    def __init__(self, failing: Optional[int], fail: Callable[[], None]) -> None:
        self.failing, self.fail = failing, fail
        self.calls: List[str] = []

    def __call__(self, name: str) -> None:
        """Note a call, and fail if it is its turn."""
        self.calls.append(name)
        if len(self.calls) == self.failing:
            self.fail()


class FaultyStream:
    """A file whose reads and writes are counted, too."""

    def __init__(self, stream: Any, faults: Faults) -> None:
        self._stream, self._faults = stream, faults

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._stream, name)
        if name not in _STREAM_CALLS:
            return method

        def counted(*words: Any, **options: Any) -> Any:
            self._faults(name)
            return method(*words, **options)

        return counted

    def __enter__(self) -> FaultyStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._faults("close")


def io_error() -> None:
    """Fail as a worn disk does."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def die() -> None:
    """Fail as a process does that is killed."""
    os._exit(9)


@contextlib.contextmanager
def injected(failing: Optional[int], fail: Callable[[], None] = io_error) -> Iterator[Faults]:
    """Count calls to the file system in the block, and let one of them fail."""
    faults = Faults(failing, fail)
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(name, _counted(name, faults))
        real = os.fdopen
        patch.setattr("os.fdopen", lambda *words, **options: FaultyStream(real(*words, **options), faults))
        yield faults


def _counted(name: str, faults: Faults) -> Callable[..., Any]:
    module, function = name.split(".")
    real = getattr(__import__(module), function)

    def counted(*words: Any, **options: Any) -> Any:
        faults(name)
        return real(*words, **options)

    return counted


def each_fault(work: Callable[[], Any]) -> Iterator[int]:
    """Go through the numbers of the calls that `work` makes to the file system when none fails."""
    with injected(None) as faults:
        work()
    yield from range(1, len(faults.calls) + 1)
