"""Compile a bundle for a device and store the engine in the cache.

TensorRT builds an engine on the GPU that runs it, so this must run on the device. All of it but `find_gpu` is tested
without a GPU; it has not run on a device yet.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Callable, Optional, Tuple, Union

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
    """Compile a bundle for this device and store the engine in the cache, where `MaskPredictor` finds it.

    Args:
        bundle: path of a bundle, or an opened one.
        target: name or alias of this device, as listed by `blendmask targets`.
        precision: "int8", "fp16" or "fp32".
        workspace_mib: memory limit of one layer during the build, in MiB, 1 or more; None takes TensorRT's default.
        runtime: "tensorrt" or "torch_tensorrt".

    Returns:
        Path and key of the engine, and whether it was already in the cache.

    Raises:
        ConfigError: the target or an option is unknown, `check` refuses the bundle, or this device has another GPU.
        RuntimeUnavailableError: TensorRT or a GPU is missing; the message has the next step.
        BundleError: the bundle is not valid.
        InferenceError: TensorRT refuses the graph.
        OutputError: the cache cannot be written.

    Example:
        >>> from blendmask_edge import ConfigError, compile
        >>> try:
        ...     print(compile("model.bmz", "jetson-orin-nano").path)
        ... except ConfigError as error:
        ...     print(error)  # this bundle has no graph for TensorRT
        model.bmz cannot be compiled for Jetson Orin Nano ...
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if not isinstance(runtime, str):
        raise ConfigError(f"runtime is {runtime!r}, expected tensorrt or torch_tensorrt.")
    options = CompileOptions(as_precision(precision), workspace_mib, runtime.replace("-", "_"))
    return compile_bundle(opened, target, options=options)


def compile_bundle(
    bundle: Bundle,
    target: Union[str, Target],
    cache: Optional[Path] = None,
    options: Optional[CompileOptions] = None,
    toolchain: Union[Toolchain, TorchToolchain, None] = None,
) -> Engine:
    """Check a bundle, then compile its graph or find the engine in the cache; see `compile`.

    Args:
        bundle: an opened bundle.
        target: this device, or its name or alias.
        cache: folder for engines; None takes the default. Programs are stored where their runtime looks for them.
        options: precision, workspace and runtime; None takes INT8 and TensorRT.
        toolchain: compiler and GPU; None looks for those of this machine.

    Raises:
        ConfigError: the check refuses the bundle, the device is a CPU, or this machine has another GPU.
        RuntimeUnavailableError: TensorRT or a GPU is missing; the message has the next step.
        InferenceError: TensorRT refuses the graph.
        BundleError: the graph cannot be read.
        OutputError: the cache cannot be written.
    """
    table = load_table()
    options = options if options is not None else CompileOptions()
    device = target if isinstance(target, Target) else table.find(target)
    _require_gpu(device, bundle.path)
    before_tools = CheckOptions(options.precision, runtime=options.runtime)
    _require_ok(bundle, device, check_bundle(bundle, device, before_tools, table))
    tools = toolchain if toolchain is not None else find_tools(device, bundle.path.name, options.runtime)
    _require_gpu_of(device, tools.gpu, table)
    result = check_bundle(bundle, device, CheckOptions(options.precision, tools.version, options.runtime), table)
    _require_ok(bundle, device, result)
    graph = bundle.graph(str(result.requested.variant))
    if isinstance(tools, TorchToolchain):
        return compile_torch(graph, tools, options)
    return compile_graph(graph, tools, cache, options.engine)


def find_torch_tools(target: str, bundle: PathLike) -> Tuple[Target, TorchToolchain]:
    """Find the device that this is, and its Torch-TensorRT, before there is a bundle.

    Args:
        target: this device, by name or alias.
        bundle: path of the bundle that is to be made, for the messages.

    Raises:
        ConfigError: the device is unknown or a CPU, or this machine has another GPU.
        RuntimeUnavailableError: Torch-TensorRT or a GPU is missing; the message has the next step.
        OutputError: the cache cannot be written.
    """
    table, path = load_table(), Path(bundle)
    device = table.find(target)
    _require_gpu(device, path)
    tools = find_tools(device, path.name, "torch_tensorrt")
    assert isinstance(tools, TorchToolchain)
    _require_gpu_of(device, tools.gpu, table)
    program_cache().check()
    return device, tools


def store_network(
    bundle: Bundle, target: Target, toolchain: TorchToolchain, compile_network: Callable[[], bytes]
) -> Engine:
    """Compile the network that a bundle was exported from, and store its program as that of the `tensorrt` graph.

    Args:
        bundle: of the network.
        target: this device, from `find_torch_tools`.
        toolchain: as well from there.
        compile_network: makes the program.

    Raises:
        ConfigError: the check refuses the bundle.
        InferenceError: Torch-TensorRT refuses the network.
        OutputError: the cache cannot be written.
    """
    _require_ok(bundle, target, check_bundle(bundle, target, CheckOptions("int8", toolchain.version, "torch_tensorrt")))
    digest = bundle.manifest.graphs["tensorrt"].sha256
    return _stored(digest, compile_network(), toolchain.gpu)


def compile_torch(graph: bytes, toolchain: TorchToolchain, options: CompileOptions) -> Engine:
    """Compile an ONNX file to a Torch-TensorRT program for this GPU, and store it where the runtime looks for it.

    Programs are never reused, because their names do not contain everything they depend on, such as torch.

    Raises:
        InferenceError: Torch-TensorRT refuses the graph.
        DependencyError: a package is missing.
        BundleError, OutputError: as `compile_bundle`.
    """
    program_cache().check()
    program = toolchain.compiler.compile_program(graph, options.precision, options.engine.workspace_bytes)
    return _stored(hashlib.sha256(graph).hexdigest(), program, toolchain.gpu)


def _stored(graph_sha256: str, program: bytes, gpu: Gpu) -> Engine:
    path = program_cache().write(program_name(graph_sha256, gpu), program)
    return Engine(path, program_key(graph_sha256, gpu), reused=False)


def _require_gpu(target: Target, bundle: Path) -> None:
    if target.kind == "cpu":
        raise ConfigError(
            f"{target.title} needs no engine. Type: blendmask predict {bundle} IMAGE...  (uses the cpu graph)."
        )


def _require_ok(bundle: Bundle, target: Target, result: CheckResult) -> None:
    if result.ok:
        return
    refusals = "; ".join(reason.text for reason in result.reasons if reason.kind == "refusal")
    route = result.route or result.meanwhile
    instead = f" {route} works instead." if route is not None and not route.needs else ""
    raise ConfigError(
        f"{bundle.path} cannot be compiled for {target.title} ({result.requested}): {refusals}.{instead} "
        f"Type: blendmask check {bundle.path} --target {target.name}"
    )


def _require_gpu_of(target: Target, gpu: Gpu, table: Table) -> None:
    wanted = target.sm.value if target.sm is not None else None
    if gpu.sm == wanted:
        return
    here = [row.name for row in table.targets if row.sm is not None and row.sm.value == gpu.sm]
    raise ConfigError(
        f"This machine has the GPU {gpu.name}, SM {gpu.sm}; {target.title} has SM {wanted}. An engine runs only on the "
        f"kind of GPU that built it. Run this on the device"
        + (f", or choose the target of this GPU: {', '.join(here)}." if here else ".")
    )
