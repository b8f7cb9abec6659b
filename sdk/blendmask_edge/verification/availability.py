"""The target, GPU and compilers of this machine, and for each route whether it can be tried."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Dict, List, Optional

from blendmask_edge.benchmark.machine import this_machine
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.devices.check import check_bundle
from blendmask_edge.devices.result import CheckOptions
from blendmask_edge.devices.table import Table, Target
from blendmask_edge.errors import ConfigError
from blendmask_edge.hardware.cuda import LIBRARY_NAME, Gpu, driver_present, find_gpu
from blendmask_edge.runtimes.registry import RUNTIMES, select
from blendmask_edge.verification.routes import TORCH, Route

_PACKAGES = ("blendmask-edge", "torch", "nvidia-modelopt")
_VNNI = {"avx512_vnni", "avx_vnni"}
_AGAIN = "then run `blendmask verify-device` again"


@dataclass(frozen=True)
class Absence:
    """Why a route cannot be tried here, and what to do about it."""

    reason: str
    next: str


def find_target(table: Table, name: Optional[str]) -> Target:
    """Return the target that this machine is.

    Args:
        table: of devices.
        name: as the user typed it, of the GPU or the processor; None takes the only one with the GPU of this machine,
            or the one of its processor.

    Raises:
        ConfigError: the name is unknown or of another device, or none is given and several targets have this GPU.
    """
    gpu, by_processor = find_gpu(), _by_processor()
    by_gpu = [] if gpu is None else _by_gpu(table, gpu)
    fitting = [*by_gpu, by_processor]
    named = table.find(name) if name is not None else None
    if named is not None and named.name in fitting:
        return named
    if named is None and (gpu is None or len(by_gpu) == 1):
        return table.find(fitting[0])
    processor = this_machine().cpu
    here = f"the GPU {gpu.name}, SM {gpu.sm}" if gpu is not None else f"no GPU that the driver shows, and {processor}"
    asked = "may be one of several targets" if by_gpu else "has a GPU that no target has"
    asked = f"is not a {named.title}" if named is not None else asked
    raise ConfigError(
        f"This machine {asked}: it has {here}. Targets that fit: {', '.join(fitting)}. Give one of them with "
        "--target T; `blendmask targets` describes them."
    )


def _by_gpu(table: Table, gpu: Gpu) -> List[str]:
    """Return the names of the targets with this GPU."""
    return [target.name for target in table.targets if target.sm is not None and target.sm.value == gpu.sm]


def _by_processor() -> str:
    """Return the name of the target that the processor of this machine is."""
    machine = this_machine()
    if machine.architecture in ("aarch64", "arm64"):
        return "arm64"
    return "x86-vnni" if _VNNI & set(machine.flags) else "x86"


def toolchains(gpu: Optional[Gpu]) -> Dict[str, str]:
    """Return the versions of the runtimes, compilers and packages that are installed here, without importing them."""
    versions = {row.name: row.version for row in RUNTIMES if row.installed}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**versions, **({"driver": gpu.driver} if gpu is not None else {})}


def absence(route: Route, bundle: Bundle, target: Target, gpu: Optional[Gpu]) -> Optional[Absence]:
    """Return why a route cannot be tried here; None where it can."""
    if route.is_on_gpu and gpu is None:
        reason = "the CUDA driver shows no GPU" if driver_present() else f"there is no CUDA driver ({LIBRARY_NAME})"
        return Absence(reason, f"run `blendmask verify-device` on a device with an NVIDIA GPU{_first(route)}")
    if route.is_on_gpu and gpu is not None and target.kind == "cpu":
        advice = f"give the target of the {gpu.name} with --target; `blendmask targets` lists them"
        return Absence(f"the target {target.name} is a processor", advice)
    if route.variant not in bundle.manifest.graphs:
        return Absence(f"the bundle has no {route.variant} graph", "build it with `blendmask quantize --keep-float`")
    if not _is_installed(route):
        name = "PyTorch" if route.runtime == TORCH else route.runtime
        return Absence(f"{name} is not installed", f"{_install(route, target)}; {_AGAIN}")
    return _refused(route, bundle, target) if route.is_on_gpu and route.runtime != TORCH else None


def _first(route: Route) -> str:
    return "" if _is_installed(route) or route.runtime == TORCH else f", where {route.runtime} is installed"


def _is_installed(route: Route) -> bool:
    if route.runtime == TORCH:
        return importlib.util.find_spec("torch") is not None
    return select(route.runtime).installed


def _install(route: Route, target: Target) -> str:
    if route.runtime == TORCH:
        return "install PyTorch for this CUDA, and this package with the extra quantize"
    return target.install.value if route.runtime == "tensorrt" else select(route.runtime).install_command


def _refused(route: Route, bundle: Bundle, target: Target) -> Optional[Absence]:
    result = check_bundle(bundle, target, CheckOptions(route.precision, runtime=route.runtime))
    refusals: List[str] = [reason.text for reason in result.reasons if reason.kind == "refusal"]
    if not refusals:
        return None
    words = f"--target {target.name} --precision {route.precision} --runtime {route.runtime}"
    return Absence("; ".join(refusals), f"blendmask check {bundle.path} {words}")
