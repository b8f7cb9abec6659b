"""Models as a runtime compiled them, one file each in the cache folder, so that the next start is quick.

OpenVINO's own cache, `CACHE_DIR`, loads what it finds there whole or broken: of 2026.4, a file with changed bytes was
taken as it was, which may mean other weights. Here a file begins with the SHA-256 of the rest. A cache that cannot be
read or written is no error: the graph is then compiled again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Mapping, Optional

from blendmask_edge.errors import OutputError
from blendmask_edge.hardware.cpu import processor
from blendmask_edge.storage.atomic import write_bytes
from blendmask_edge.storage.cache import cache_folder

_FOLDER_NAME = "compiled"
_DIGEST_BYTES = 32


def key_of(graph: bytes, runtime: str, properties: Mapping[str, object]) -> str:
    """Return the name under which a compiled graph is kept on this machine.

    Args:
        graph: the ONNX file.
        runtime: name and full version of what compiles it.
        properties: what it is compiled with.
    """
    parts = [hashlib.sha256(graph).hexdigest(), runtime, repr(sorted(properties.items())), processor()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def recall(key: str) -> Optional[bytes]:
    """Return what was kept under `key`; None if there is nothing, or not what was written."""
    try:
        content = _path(key).read_bytes()
    except (OSError, OutputError):
        return None
    digest, model = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return model if hashlib.sha256(model).digest() == digest else None


def keep(key: str, model: bytes) -> bool:
    """Keep a compiled model under `key`, whole or not at all; return whether that could be done.

    The folder is made for its owner alone: who writes there decides what the network answers.
    """
    try:
        path = _path(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(path, hashlib.sha256(model).digest() + model)
    except (OSError, OutputError):
        return False
    return True


def _path(key: str) -> Path:
    return cache_folder() / _FOLDER_NAME / f"{key}.bin"
