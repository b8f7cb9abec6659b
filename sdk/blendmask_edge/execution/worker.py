"""The side of a worker: open the work once, and do one shard after the other."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import signal
import threading
from contextlib import ExitStack
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

from blendmask_edge.errors import WorkerError

if TYPE_CHECKING:
    from blendmask_edge.execution.work import Process

_opened: Optional[Tuple[bytes, ExitStack, Process]] = None
_started_with = b""


def process_payload(opener: bytes, payload: Any) -> bytes:
    """Do a shard; the work is opened at the first one and stays open.

    Args:
        opener: pickled `Opener`.
        payload: of the shard.
    """
    return _open(opener)(payload)


def start(opener: bytes) -> None:
    """Begin as a child process: Ctrl-C is the parent's to handle, and without a parent there is nothing to do."""
    global _started_with
    _started_with = opener
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def process_in_child(payload: Any) -> bytes:
    """Do a shard of the work that the process was started with."""
    return process_payload(_started_with, payload)


def check_node(version: str, needs: Sequence[str]) -> None:
    """See that a node of a cluster has this package and the files.

    Args:
        version: of the package where the work was started.
        needs: paths of files and folders.

    Raises:
        WorkerError: it has not.
    """
    import platform

    installed = importlib.metadata.version("blendmask-edge")
    if installed != version:
        raise WorkerError(
            f"Node {platform.node()} has blendmask-edge {installed}, and the work was started by {version}. Install "
            "the same version on every node."
        )
    missing = [path for path in needs if not os.path.exists(path)]
    if missing:
        raise WorkerError(
            f"Node {platform.node()} has no {missing[0]}. Every node must see model and images at the same path: put "
            "them on a shared file system."
        )


def _open(opener: bytes) -> Process:
    global _opened
    if _opened is None or _opened[0] != opener:
        if _opened is not None:
            _opened[1].close()
            _opened = None
        stack = ExitStack()
        process = stack.enter_context(pickle.loads(opener)())
        _opened = opener, stack, process
    return _opened[2]


def _end_with_parent() -> None:
    """Wait for the parent's end, and end; `verification.process.end_with` says why there are two ways."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
