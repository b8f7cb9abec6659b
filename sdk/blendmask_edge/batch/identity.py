"""A digest by which an interrupted run knows whether its files are still those it began with."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Iterable, Tuple, Union

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike


def files_identity(text: str, files: Iterable[Tuple[Union[int, str], PathLike]]) -> str:
    """Return a digest of a text, and of the names, sizes and times of files.

    A file that has gone adds nothing; the worker that is to read it reports it.

    Args:
        text: what else the digest depends on.
        files: each with its image id or the name of its result.
    """
    digest = hashlib.sha256(text.encode())
    for key, file in files:
        with suppress(OSError):
            status = Path(file).stat()
            digest.update(json.dumps([key, str(file), status.st_size, status.st_mtime_ns]).encode())
    return digest.hexdigest()
