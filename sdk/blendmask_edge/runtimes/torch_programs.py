"""Where the Torch-TensorRT program of a graph lies: in the cache, under a name that says what it depends on.

It cannot lie in a bundle: a program holds an engine, which fits one GPU and one TensorRT only, and is read by pickle.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from blendmask_edge.errors import OutputError
from blendmask_edge.hardware.gpu import Gpu, find_gpu
from blendmask_edge.runtimes.tensorrt.engine_cache import EngineKey
from blendmask_edge.storage.cache import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER_NAME = "programs"
_DISTRIBUTION = "torch-tensorrt"


def program_path(graph_sha256: str, gpu: Gpu) -> Path:
    """Return where the program of the graph of this SHA-256 belongs, an exported program (.ep).

    Its name changes with the GPU, the driver and the installed version of Torch-TensorRT.

    Raises:
        OutputError: there is no cache folder.
    """
    return cache_folder() / _FOLDER_NAME / f"{program_key(graph_sha256, gpu).stem}.ep"


def program_key(graph_sha256: str, gpu: Gpu) -> EngineKey:
    """Return what a program depends on, as far as it can be seen without importing torch."""
    return EngineKey(graph_sha256, gpu.sm, f"torch{_version()}", gpu.driver, {})


def program_present(graph_sha256: str) -> bool:
    """Whether there is such a program for the GPU here."""
    gpu = find_gpu()
    try:
        return gpu is not None and program_path(graph_sha256, gpu).is_file()
    except (OSError, OutputError):
        return False


def _version() -> str:
    try:
        return importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
