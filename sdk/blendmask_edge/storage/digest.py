"""The SHA-256 of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

_BLOCK = 2**20


def file_sha256(path: PathLike) -> str:
    """Return the SHA-256 of a file in hexadecimal; it is read block by block.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()
