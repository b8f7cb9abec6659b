"""The table of runtimes. To add one, write a module in this package and add a row here.

A runtime is imported when it is first used.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, List, Optional, Tuple, cast

from blendmask_edge.errors import ConfigError, RuntimeUnavailableError, install_command
from blendmask_edge.hardware.cuda import driver_present, find_gpu
from blendmask_edge.runtimes.base import Runtime, Session, SessionOptions
from blendmask_edge.runtimes.engines import program_present, provider_engine_present

AUTO = "auto"
_INSTEAD_OF_CPU = (
    "  (first `pip uninstall onnxruntime`: the two packages overwrite each other; on a Jetson take the wheel that "
    "NVIDIA builds for its JetPack)"
)


def _always(graph_sha256: str) -> bool:
    del graph_sha256
    return True


def _with_driver(graph_sha256: str) -> bool:
    del graph_sha256
    return driver_present()


@dataclass(frozen=True)
class RuntimeRow:
    """One runtime of the table.

    Attributes:
        name: value of `MaskPredictor(runtime=...)`.
        module: module that implements the protocol.
        package: package that must be installed.
        variants: variants that it runs by default, the preferred one first.
        extra: extra of `blendmask-edge` that installs it.
        distributions: distribution names of the package; the first installed one gives the version.
        also: variants that it runs, slower or less exactly, if they are requested by name.
        ready: tells from the SHA-256 of a graph, without importing the package, whether it can run here.
        remark: addition to the install command.
        needs_gpu: whether it needs an NVIDIA GPU.
        file: in the folder of the package; builds of the package without it lack this runtime.
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
    file: str = ""

    @property
    def installed(self) -> bool:
        """Whether the package is installed, in a build that has this runtime; does not import it."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not self.file:
            return spec is not None
        return any((Path(folder) / self.file).is_file() for folder in spec.submodule_search_locations or ())

    @property
    def version(self) -> str:
        """Version of the installed package, or "unknown"; does not import it."""
        import importlib.metadata

        for name in self.distributions or (self.package,):
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return "unknown"

    @property
    def install_command(self) -> str:
        """Instruction to install it, with the remark."""
        return f"Type: {install_command(self.extra)}{self.remark}"

    def load(self) -> Runtime:
        """Import the module.

        Raises:
            RuntimeUnavailableError: the package is missing or cannot be imported; the message has the pip command.
        """
        if not self.installed:
            raise RuntimeUnavailableError(f"Runtime {self.name!r} is not installed. {self.install_command}")
        try:
            return cast(Runtime, importlib.import_module(self.module))
        except Exception as error:  # a broken installation can raise anything on import
            raise RuntimeUnavailableError(
                f"{self.package} is installed but cannot be imported: {error}. {self.install_command}"
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
        remark="  (on a Jetson it comes with JetPack: make the environment with --system-site-packages; if python3 "
        "lacks it outside, too: apt install python3-libnvinfer)",
    ),
    RuntimeRow(
        name="onnxruntime-tensorrt",
        module="blendmask_edge.runtimes.onnxruntime_gpu.tensorrt",
        package="onnxruntime",
        variants=("tensorrt", "float"),
        extra="gpu",
        distributions=("onnxruntime-gpu",),
        # Its engine takes minutes to build, so that "auto" takes it only where that was done before.
        ready=provider_engine_present,
        remark=_INSTEAD_OF_CPU,
        needs_gpu=True,
        file="capi/libonnxruntime_providers_tensorrt.so",
    ),
    RuntimeRow(
        name="onnxruntime-cuda",
        module="blendmask_edge.runtimes.onnxruntime_gpu.cuda",
        package="onnxruntime",
        variants=("float", "tensorrt"),
        extra="gpu",
        distributions=("onnxruntime-gpu",),
        ready=_with_driver,
        remark=_INSTEAD_OF_CPU,
        needs_gpu=True,
        file="capi/libonnxruntime_providers_cuda.so",
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
    """Return a row by name, in which "-" and "_" are the same.

    Raises:
        ConfigError: no runtime has this name; the message suggests the nearest one.
    """
    for row in RUNTIMES:
        if row.name.replace("-", "_") == name.replace("-", "_"):
            return row
    known = [AUTO] + [row.name for row in RUNTIMES]
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(f"Unknown runtime {name!r}; known: {', '.join(known)}.{hint}")


def installed_rows() -> Tuple[RuntimeRow, ...]:
    """Return the rows whose package is installed, in the order of the table.

    Raises:
        RuntimeUnavailableError: no runtime is installed.
    """
    rows = tuple(row for row in RUNTIMES if row.installed)
    if not rows:
        names = ", ".join(row.name for row in RUNTIMES)
        raise RuntimeUnavailableError(f"No runtime is installed (looked for {names}). {RUNTIMES[0].install_command}")
    return rows


@dataclass(frozen=True)
class AvailableRuntime:
    """A supported runtime, and whether it can run on this machine.

    Attributes:
        name: value of `MaskPredictor(runtime=...)`.
        installed: whether its package is installed.
        version: version of the package; None if it is not installed.
        variants: graphs of a bundle that it runs, the preferred one first.
        reason: why it cannot run, with the command that installs it; empty if it can, as far as is known without
            loading it.
    """

    name: str
    installed: bool
    version: Optional[str]
    variants: Tuple[str, ...]
    reason: str = ""


def available_runtimes() -> List[AvailableRuntime]:
    """List the supported runtimes, without loading them.

    Returns:
        One entry per runtime, installed or not, in order of preference.

    Example:
        >>> from blendmask_edge import available_runtimes
        >>> [runtime.name for runtime in available_runtimes() if not runtime.reason]
        ['onnxruntime', ...]
    """
    return [
        AvailableRuntime(row.name, row.installed, row.version if row.installed else None, row.variants, _reason(row))
        for row in RUNTIMES
    ]


def _reason(row: RuntimeRow) -> str:
    if not row.installed:
        return f"It is not installed. {row.install_command}"
    if row.needs_gpu and find_gpu() is None:
        return "There is no GPU, or no CUDA driver."
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
