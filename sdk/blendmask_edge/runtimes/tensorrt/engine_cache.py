"""Engines on disk, outside the bundle: each under a name that says all it depends on."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, Optional

from blendmask_edge.storage.atomic import output_error, write_bytes
from blendmask_edge.storage.cache import cache_folder


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on; two builds with one key may share a file.

    graph_sha256: of the ONNX file.   sm: compute capability.   tensorrt: full version.
    driver: as in `Gpu`.   arguments: as in `BuildArguments.as_dict`, but for the workspace.
    workspace_bytes: what the builder was given. It decides how good an engine can get, not whether one can be used.
    """

    graph_sha256: str
    sm: str
    tensorrt: str
    driver: str
    arguments: Dict[str, object]
    workspace_bytes: Optional[int] = None

    @property
    def stem(self) -> str:
        """A name to read, with a digest of the key but for the workspace."""
        text = json.dumps({**asdict(self), "workspace_bytes": None}, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        version = re.sub(r"[^0-9A-Za-z.]", "_", self.tensorrt)
        return f"{self.graph_sha256[:12]}-sm{self.sm.replace('.', '')}-trt{version}-{digest}"

    @property
    def file_name(self) -> str:
        """The stem, and the workspace where one was given."""
        workspace = "" if self.workspace_bytes is None else f"-workspace{self.workspace_bytes}"
        return f"{self.stem}{workspace}.engine"


def default_cache() -> Path:
    """Return the folder for engines in the cache of this machine.

    Raises:
        OutputError: there is no cache folder.
    """
    return cache_folder() / "engines"


def find_engine(cache: Path, key: EngineKey) -> Optional[Path]:
    """Return the file of an engine that was built before, or None.

    A key without a workspace takes the newest engine, whatever workspace that was given.
    """
    if key.workspace_bytes is not None:
        path = cache / key.file_name
        return path if path.is_file() else None
    return max(cache.glob(f"{key.stem}*.engine"), key=lambda path: path.stat().st_mtime_ns, default=None)


def store_engine(cache: Path, key: EngineKey, engine: bytes) -> Path:
    """Write an engine, whole or not at all, and return its path; see `store_file`."""
    return store_file(cache / key.file_name, engine)


def store_file(path: Path, data: bytes) -> Path:
    """Write a file of the cache, whole or not at all, and return its path.

    The folder is made for its owner alone: loading an engine trusts it as loading a program does.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    write_bytes(path, data)
    return path
