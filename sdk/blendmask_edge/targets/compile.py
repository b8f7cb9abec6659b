"""Compile a bundle for a target into a cache of engines.

TensorRT builds on the GPU that the engine is for, so this runs on the target itself. Everything but `build_engine` and
`find_gpu` is tested without a device; no device has run the whole.
"""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.errors import ConfigError, RuntimeUnavailableError
from blendmask_edge.targets.arguments import CompileOptions, build_arguments
from blendmask_edge.targets.build import build_engine
from blendmask_edge.targets.check import check
from blendmask_edge.targets.engine_cache import EngineKey, default_cache, find_engine, store_engine
from blendmask_edge.targets.gpu import Gpu, find_gpu
from blendmask_edge.targets.onnx_facts import read_onnx
from blendmask_edge.targets.table import Silicon, Table, Target, load_table
from blendmask_edge.targets.verdict import CheckOptions, Verdict
from blendmask_edge.targets.versions import Version


@dataclass(frozen=True)
class Engine:
    """A compiled engine: where it lies, what it depends on, and whether it had been built before."""

    path: Path
    key: EngineKey
    reused: bool


@dataclass(frozen=True)
class Toolchain:
    """What builds engines here: the `tensorrt` module and the GPU."""

    trt: Any
    gpu: Gpu

    @property
    def version(self) -> str:
        """The full version of TensorRT."""
        return str(self.trt.__version__)


def compile_bundle(
    bundle: Bundle,
    target: Union[str, Target],
    cache: Optional[Path] = None,
    options: Optional[CompileOptions] = None,
    toolchain: Optional[Toolchain] = None,
) -> Engine:
    """Check a bundle against a target, then compile the graph that the target takes, or find it in the cache.

    Args:
        bundle: an opened bundle.
        target: the device that this runs on: a `Target`, or its name or alias.
        cache: folder for engines; None takes `default_cache()`.
        options: precision and workspace; INT8 if None.
        toolchain: TensorRT and GPU; None looks for those of this machine.

    Raises:
        ConfigError: the check says no, the target is a CPU, or the GPU here is not the target's.
        RuntimeUnavailableError: TensorRT or a GPU is missing; the message has the next step.
        InferenceError: TensorRT refuses the graph.
        BundleError: the graph cannot be read.
        OutputError: the cache cannot be written.
    """
    table = load_table()
    options = options if options is not None else CompileOptions()
    found = table.find(target) if isinstance(target, str) else target
    if found.kind == "cpu":
        raise ConfigError(
            f"{found.title} needs no engine; type: blendmask predict {bundle.path} IMAGE...  (it takes the cpu graph)."
        )
    _require_yes(bundle, found, check(bundle, found, CheckOptions(options.precision), table))
    tools = toolchain if toolchain is not None else find_toolchain(found, bundle)
    _require_gpu_of(found, tools.gpu, table)
    verdict = check(bundle, found, CheckOptions(options.precision, tools.version), table)
    _require_yes(bundle, found, verdict)
    return compile_graph(bundle.graph(str(verdict.asked.flavour)), tools, cache, options)


def compile_graph(
    graph: bytes, toolchain: Toolchain, cache: Optional[Path] = None, options: Optional[CompileOptions] = None
) -> Engine:
    """Compile an ONNX file for the GPU here, or find it in the cache. No check is made: `compile_bundle` makes it.

    Raises:
        ConfigError: the table knows nothing of the GPU.
        InferenceError, BundleError, OutputError: as `compile_bundle`.
    """
    table, folder = load_table(), cache if cache is not None else default_cache()
    options = options if options is not None else CompileOptions()
    silicon = _silicon(toolchain.gpu, table)
    version = Version.parse(toolchain.version)
    arguments = build_arguments(version, options, silicon, read_onnx(graph).holds_half, table)
    digest = hashlib.sha256(graph).hexdigest()
    gpu = toolchain.gpu
    key = EngineKey(digest, gpu.sm, toolchain.version, gpu.driver, arguments.as_dict(), arguments.workspace_bytes)
    built = find_engine(folder, key)
    if built is not None:
        return Engine(built, key, reused=True)
    return Engine(store_engine(folder, key, build_engine(toolchain.trt, graph, arguments)), key, reused=False)


def find_toolchain(target: Target, bundle: Bundle) -> Toolchain:
    """Return TensorRT and the GPU of this machine.

    Raises:
        RuntimeUnavailableError: one or both are missing; the message says how the target gets TensorRT and what to
            type there.
    """
    missing, trt, gpu = [], None, find_gpu()
    try:
        trt = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        missing.append(f"tensorrt cannot be imported ({error})")
    if gpu is None:
        missing.append("the CUDA driver shows no GPU")
    if gpu is not None and trt is not None:
        return Toolchain(trt, gpu)
    raise RuntimeUnavailableError(
        f"Cannot compile on this machine: {' and '.join(missing)}. An engine is built on the {target.title} itself. "
        f"To get TensorRT there: {target.install.value} ({target.install.mark}). "
        f"Then copy {bundle.path.name} to it and type: blendmask compile {bundle.path.name} --target {target.name}"
    )


def _require_yes(bundle: Bundle, target: Target, verdict: Verdict) -> None:
    if verdict.ok:
        return
    refusals = "; ".join(reason.text for reason in verdict.reasons if reason.kind == "refusal")
    route = verdict.route or verdict.meanwhile
    way = f" Works instead: {route}." if route is not None and not route.needs else ""
    raise ConfigError(
        f"{bundle.path} cannot be compiled for {target.title} ({verdict.asked}): {refusals}.{way} "
        f"Type: blendmask check {bundle.path} --target {target.name}"
    )


def _require_gpu_of(target: Target, gpu: Gpu, table: Table) -> None:
    wanted = target.sm.value if target.sm is not None else None
    if gpu.sm == wanted:
        return
    here = [row.name for row in table.targets if row.sm is not None and row.sm.value == gpu.sm]
    raise ConfigError(
        f"The GPU here is {gpu.name}, SM {gpu.sm}; {target.title} has SM {wanted}. An engine fits only the kind of GPU "
        f"that built it: run this on the target" + (f", or name this one: {', '.join(here)}." if here else ".")
    )


def _silicon(gpu: Gpu, table: Table) -> Silicon:
    for row in table.silicon:
        if row.sm == gpu.sm:
            return row
    known = ", ".join(row.sm for row in table.silicon)
    raise ConfigError(f"The table knows nothing of {gpu.name}, SM {gpu.sm}; it knows SM {known}.")
