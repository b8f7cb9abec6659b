"""Compile a bundle for a target into a cache of engines.

TensorRT builds on the GPU that the engine is for, so this runs on the target itself. Everything but `find_gpu` is
tested without a device; no device has run the whole.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Optional, Union

from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.compilation.options import CompileOptions
from blendmask_edge.compilation.toolchain import TorchToolchain, find_tools
from blendmask_edge.devices.check import check_bundle
from blendmask_edge.devices.result import CheckOptions, CheckResult, as_precision
from blendmask_edge.devices.table import Table, Target, load_table
from blendmask_edge.errors import ConfigError
from blendmask_edge.hardware.cuda import Gpu
from blendmask_edge.runtimes.engines import Engine, program_cache, program_key, program_name
from blendmask_edge.runtimes.tensorrt.engine import Toolchain, compile_graph
from blendmask_edge.storage.atomic import PathLike


def compile(
    bundle: Union[Bundle, PathLike],
    target: str,
    *,
    precision: str = "int8",
    workspace_mib: Optional[int] = None,
    runtime: str = "tensorrt",
) -> Engine:
    """Compile a bundle for the device that this runs on, into the cache where `MaskPredictor` looks for it.

    Args:
        bundle: an opened bundle, or its path.
        target: the device: a name or alias of `blendmask targets`.
        precision: "int8", "fp16" or "fp32".
        workspace_mib: memory that the builder may give to one layer, 1 or more; None leaves it to TensorRT.
        runtime: "tensorrt" or "torch_tensorrt".

    Returns:
        Path and key of the engine, and whether it had been built before.

    Raises:
        ConfigError: the target or an option is unknown, the check refuses the bundle, or the GPU is another.
        RuntimeUnavailableError: TensorRT or a GPU is missing; the message has the next step.
        BundleError, InferenceError, OutputError: the bundle is not sound, TensorRT refuses its graph, or the cache
            cannot be written.

    Example:
        engine = compile("kitchen.bmz", "jetson-orin-nano")
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    options = CompileOptions(as_precision(precision), workspace_mib, runtime.replace("-", "_"))
    return compile_bundle(opened, target, options=options)


def compile_bundle(
    bundle: Bundle,
    target: Union[str, Target],
    cache: Optional[Path] = None,
    options: Optional[CompileOptions] = None,
    toolchain: Union[Toolchain, TorchToolchain, None] = None,
) -> Engine:
    """Check a bundle against a target, then compile the graph that the target takes, or find it in the cache.

    Args:
        bundle: an opened bundle.
        target: the device that this runs on: a `Target`, or its name or alias.
        cache: folder for engines; None takes the one of this machine. Programs go where their runtime looks.
        options: precision, workspace and runtime; INT8 by TensorRT if None.
        toolchain: what compiles, and the GPU; None looks for those of this machine.

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
    asked = CheckOptions(options.precision, runtime=options.runtime)
    _require_yes(bundle, found, check_bundle(bundle, found, asked, table))
    tools = toolchain if toolchain is not None else find_tools(found, bundle.path.name, options.runtime)
    _require_gpu_of(found, tools.gpu, table)
    result = check_bundle(bundle, found, CheckOptions(options.precision, tools.version, options.runtime), table)
    _require_yes(bundle, found, result)
    graph = bundle.graph(str(result.asked.variant))
    if isinstance(tools, TorchToolchain):
        return compile_torch(graph, tools, options)
    return compile_graph(graph, tools, cache, options.engine)


def compile_torch(graph: bytes, toolchain: TorchToolchain, options: CompileOptions) -> Engine:
    """Make the Torch-TensorRT program of an ONNX file for the GPU here, and put it where the runtime looks for it.

    It is always made anew: what else it depends on, such as torch itself, is not in its name.

    Raises:
        InferenceError: Torch-TensorRT refuses the graph.
        DependencyError: a package is missing.
        BundleError, OutputError: as `compile_bundle`.
    """
    digest, gpu = hashlib.sha256(graph).hexdigest(), toolchain.gpu
    programs = program_cache()
    programs.check()
    program = toolchain.compiler.compile_program(graph, options.precision, options.engine.workspace_bytes)
    return Engine(programs.write(program_name(digest, gpu), program), program_key(digest, gpu), reused=False)


def _require_yes(bundle: Bundle, target: Target, result: CheckResult) -> None:
    if result.ok:
        return
    refusals = "; ".join(reason.text for reason in result.reasons if reason.kind == "refusal")
    route = result.route or result.meanwhile
    way = f" Works instead: {route}." if route is not None and not route.needs else ""
    raise ConfigError(
        f"{bundle.path} cannot be compiled for {target.title} ({result.asked}): {refusals}.{way} "
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
