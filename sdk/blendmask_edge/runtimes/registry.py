"""The table of runtimes. Adding one is one file beside this and one row here.

Nothing is imported until a runtime is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Callable, List, Optional, Tuple, cast

from blendmask_edge.errors import ConfigError, RuntimeUnavailableError, install_command
from blendmask_edge.hardware.cuda import driver_present, find_gpu
from blendmask_edge.runtimes.base import Runtime, Session, SessionOptions
from blendmask_edge.runtimes.engines import program_present

AUTO = "auto"


def _always(graph_sha256: str) -> bool:
    del graph_sha256
    return True


def _with_driver(graph_sha256: str) -> bool:
    del graph_sha256
    return driver_present()


@dataclass(frozen=True)
class RuntimeRow:
    """One runtime of the table.

    name: for `MaskPredictor(runtime=...)`.
    module: our module that implements the protocol.
    package: the package whose presence says that it is installed.
    variants: variants of graphs that it runs unasked, the preferred one first.
    extra: the extra of `blendmask-edge` that installs it.
    distributions: names under which the package is distributed; the first that is installed gives its version.
    also: variants that it runs, slower or less exactly, when they are named.
    ready: whether it could run the graph of this SHA-256 here, as far as can be seen without importing it.
    remark: what else to know for installing it.
    needs_gpu: whether it runs on an NVIDIA GPU only.
    """

    name: str
    module: str
    package: str
    variants: Tuple[str, ...]
    extra: str
    distributions: Tuple[str, ...] = ()
    also: Tuple[str, ...] = ()
    ready: Callable[[str], bool] = _always
    remark: str = ""
    needs_gpu: bool = False

    @property
    def installed(self) -> bool:
        """Whether the package can be found, without importing it."""
        return importlib.util.find_spec(self.package) is not None

    @property
    def version(self) -> str:
        """Version of the installed package, without importing it; "unknown" where nothing tells."""
        for name in self.distributions or (self.package,):
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return "unknown"

    @property
    def install_command(self) -> str:
        """What to type to install it, and the remark."""
        return f"Type: {install_command(self.extra)}{self.remark}"

    def load(self) -> Runtime:
        """Import the module.

        Raises:
            RuntimeUnavailableError: the package is missing or does not start; the message has the pip command.
        """
        if not self.installed:
            raise RuntimeUnavailableError(f"Runtime {self.name!r} is not installed. {self.install_command}")
        try:
            return cast(Runtime, importlib.import_module(self.module))
        except Exception as error:  # what a broken installation raises on import is not limited to ImportError
            raise RuntimeUnavailableError(
                f"{self.package} is installed but does not start: {error}. {self.install_command}"
            ) from error


RUNTIMES = (
    RuntimeRow(
        name="onnxruntime",
        module="blendmask_edge.runtimes.onnxruntime",
        package="onnxruntime",
        variants=("cpu", "float"),
        extra="cpu",
        distributions=("onnxruntime", "onnxruntime-gpu"),
        also=("tensorrt",),
    ),
    RuntimeRow(
        name="openvino",
        module="blendmask_edge.runtimes.openvino",
        package="openvino",
        variants=("cpu", "float"),
        extra="openvino",
        also=("tensorrt",),
    ),
    RuntimeRow(
        name="tensorrt",
        module="blendmask_edge.runtimes.tensorrt.session",
        package="tensorrt",
        variants=("tensorrt", "float"),
        extra="tensorrt",
        ready=_with_driver,
        needs_gpu=True,
        remark="; a Jetson has it from JetPack (apt install python3-libnvinfer), which a virtual environment sees only "
        "when made with --system-site-packages",
    ),
    RuntimeRow(
        name="torch_tensorrt",
        module="blendmask_edge.runtimes.torch_tensorrt",
        package="torch_tensorrt",
        variants=("tensorrt", "float"),
        extra="torch-tensorrt",
        distributions=("torch-tensorrt",),
        ready=program_present,
        needs_gpu=True,
    ),
)


def select(name: str) -> RuntimeRow:
    """Return the row called `name`.

    Raises:
        ConfigError: no runtime has this name; the nearest is suggested.
    """
    for row in RUNTIMES:
        if row.name == name:
            return row
    known = [AUTO] + [row.name for row in RUNTIMES]
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"Unknown runtime {name!r}; known: {', '.join(known)}.{hint}")


def installed_rows() -> Tuple[RuntimeRow, ...]:
    """Return the rows whose package is installed, in the order of the table.

    Raises:
        RuntimeUnavailableError: none is.
    """
    rows = tuple(row for row in RUNTIMES if row.installed)
    if not rows:
        names = ", ".join(row.name for row in RUNTIMES)
        raise RuntimeUnavailableError(f"No runtime is installed (looked for {names}). {RUNTIMES[0].install_command}")
    return rows


@dataclass(frozen=True)
class AvailableRuntime:
    """One runtime of this package, and whether it can run here.

    name: for `MaskPredictor(runtime=...)`.
    installed: whether its package is installed.
    version: of the package; None where it is not installed.
    variants: graphs of a bundle that it runs, the preferred one first.
    reason: why it cannot run here, with the command that installs it; empty where nothing is seen to be in its way
        without loading it.
    """

    name: str
    installed: bool
    version: Optional[str]
    variants: Tuple[str, ...]
    reason: str = ""


def available_runtimes() -> List[AvailableRuntime]:
    """Return every runtime that this package knows, in order of preference, without loading any.

    Returns:
        One entry a runtime, also for those that are not installed.

    Example:
        [runtime.name for runtime in available_runtimes() if not runtime.reason]
    """
    return [
        AvailableRuntime(row.name, row.installed, row.version if row.installed else None, row.variants, _reason(row))
        for row in RUNTIMES
    ]


def _reason(row: RuntimeRow) -> str:
    if not row.installed:
        return f"It is not installed. {row.install_command}"
    if row.needs_gpu and find_gpu() is None:
        return "The CUDA driver shows no GPU."
    return ""


__all__ = [
    "AUTO",
    "RUNTIMES",
    "AvailableRuntime",
    "Runtime",
    "RuntimeRow",
    "Session",
    "SessionOptions",
    "available_runtimes",
    "installed_rows",
    "select",
]
