"""Where this machine keeps what can be made again: compiled engines, measured choices of a runtime."""

from __future__ import annotations

import os
from pathlib import Path

from blendmask_edge.errors import OutputError

CACHE_VARIABLE = "BLENDMASK_CACHE"
_FOLDER_NAME = "blendmask-edge"


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
