"""Name a graph of a bundle in one word: `M.bmz`, or `M.bmz:float`."""

from __future__ import annotations

import os
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from blendmask_edge.errors import ConfigError

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

SUFFIX = ".bmz"


def require_path(name: str, value: object) -> str:
    """Return a path as text.

    Raises:
        ConfigError: it is neither text nor a path, or holds a NUL character.
    """
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(text, str) or "\0" in text:
        raise ConfigError(f"{name} is {reprlib.repr(value)}, expected str or pathlib.Path without NUL characters.")
    return text


@dataclass(frozen=True)
class NamedGraph:
    """A bundle, and one of its graphs; None leaves the choice to the runtime."""

    bundle: Path
    variant: Optional[str] = None

    @property
    def name(self) -> str:
        """Name for tables and messages."""
        return self.bundle.name if self.variant is None else f"{self.bundle.name}:{self.variant}"


def named_graph(source: PathLike) -> Optional[NamedGraph]:
    """Return the graph that a source names; None if it does not name a bundle."""
    text = require_path("a source", source)
    if text.endswith(SUFFIX):
        return NamedGraph(Path(text))
    bundle, colon, variant = text.rpartition(":")
    if colon and bundle.endswith(SUFFIX) and variant and os.sep not in variant:
        return NamedGraph(Path(bundle), variant)
    return None
