"""Name a graph of a bundle in one word: `M.bmz`, or `M.bmz:float`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

SUFFIX = ".bmz"


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
    text = os.fspath(source)
    if text.endswith(SUFFIX):
        return NamedGraph(Path(text))
    bundle, colon, variant = text.rpartition(":")
    if colon and bundle.endswith(SUFFIX) and variant and os.sep not in variant:
        return NamedGraph(Path(bundle), variant)
    return None
