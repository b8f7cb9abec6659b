"""The table of runtimes. Adding one is one file beside this and one row here.

Nothing is imported until a runtime is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Tuple, cast

from blendmask_edge.errors import ConfigError, RuntimeUnavailableError
from blendmask_edge.runtimes.protocol import Runtime, Session, SessionOptions

AUTO = "auto"


@dataclass(frozen=True)
class RuntimeRow:
    """One runtime of the table.

    name: what a user types.
    module: our module that implements the protocol.
    package: the package whose presence says that it is installed.
    flavours: flavours of graphs that it runs, the preferred one first.
    extra: the extra of `blendmask-edge` that installs it.
    """

    name: str
    module: str
    package: str
    flavours: Tuple[str, ...]
    extra: str

    @property
    def installed(self) -> bool:
        """Whether the package can be found, without importing it."""
        return importlib.util.find_spec(self.package) is not None

    def load(self) -> Runtime:
        """Import the module.

        Raises:
            RuntimeUnavailableError: the package is missing or does not start; the message has the pip command.
        """
        command = f'pip install "blendmask-edge[{self.extra}]"'
        if not self.installed:
            raise RuntimeUnavailableError(f"Runtime {self.name!r} is not installed. Type: {command}")
        try:
            return cast(Runtime, importlib.import_module(self.module))
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"{self.package} is installed but does not start: {error}. Type: {command}"
            ) from error


RUNTIMES = (RuntimeRow("onnxruntime", "blendmask_edge.runtimes.onnxruntime", "onnxruntime", ("cpu", "float"), "cpu"),)


def select(name: str = AUTO) -> RuntimeRow:
    """Return the row called `name`, or for "auto" the first one that is installed.

    Raises:
        ConfigError: no runtime has this name.
        RuntimeUnavailableError: "auto", and none is installed.
    """
    if name == AUTO:
        return _first_installed()
    for row in RUNTIMES:
        if row.name == name:
            return row
    raise ConfigError(f"Unknown runtime {name!r}; known: {', '.join([AUTO] + [row.name for row in RUNTIMES])}.")


def _first_installed() -> RuntimeRow:
    for row in RUNTIMES:
        if row.installed:
            return row
    names = ", ".join(row.name for row in RUNTIMES)
    extra = RUNTIMES[0].extra
    raise RuntimeUnavailableError(
        f'No runtime is installed (looked for {names}). Type: pip install "blendmask-edge[{extra}]"'
    )


__all__ = ["AUTO", "RUNTIMES", "Runtime", "RuntimeRow", "Session", "SessionOptions", "select"]
