"""Where the Torch-TensorRT program of a graph lies: in the cache, under the hash of that graph.

It cannot lie in a bundle: a program holds an engine, which fits one GPU and one TensorRT only, and is read by pickle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blendmask_edge.cache import cache_folder
from blendmask_edge.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER_NAME = "programs"


def program_path(graph_sha256: str) -> Path:
    """Return where the program of the graph of this SHA-256 belongs, an exported program (.ep).

    Raises:
        OutputError: there is no cache folder.
    """
    return cache_folder() / _FOLDER_NAME / f"{graph_sha256}.ep"


def program_present(graph_sha256: str) -> bool:
    """Whether there is such a program."""
    try:
        return program_path(graph_sha256).is_file()
    except (OSError, OutputError):
        return False
