"""Check whether a bundle can run on a device with a runtime and precision; if not, find one that can."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterator, Optional, Tuple, Union

from blendmask_edge.bundle.manifest import Manifest
from blendmask_edge.bundle.onnx_facts import OnnxFacts, read_onnx
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.devices.case import COMPILING_RUNTIMES, GPU_RUNTIMES, Case
from blendmask_edge.devices.result import RUNTIME_TITLES, CheckOptions, CheckResult, Reason, Route, as_options
from blendmask_edge.devices.rules import apply_rules
from blendmask_edge.devices.table import Table, Target, TorchTensorRT, load_table
from blendmask_edge.errors import ConfigError
from blendmask_edge.runtimes.tensorrt.versions import Version
from blendmask_edge.storage.atomic import PathLike

_CPU_VARIANTS = {"int8": "cpu", "fp32": "float"}
_VARIANTS = {
    "tensorrt": {"int8": "tensorrt", "fp16": "float", "fp32": "float"},
    "torch_tensorrt": {"int8": "tensorrt", "fp32": "float"},
    "onnxruntime": _CPU_VARIANTS,
    "onnxruntime-cuda": {"int8": "tensorrt", "fp32": "float"},
    "onnxruntime-tensorrt": {"int8": "tensorrt", "fp16": "float"},
    "openvino": _CPU_VARIANTS,
}


def check(
    bundle: Union[Bundle, PathLike],
    target: str,
    *,
    precision: str = "int8",
    tensorrt: Optional[str] = None,
    runtime: Optional[str] = None,
) -> CheckResult:
    """Check whether a bundle can run on a device.

    Compares the graphs of the bundle with a table of devices. No device is needed.

    Args:
        bundle: path of a bundle, or an opened one.
        target: name or alias of a device, as listed by `blendmask targets`.
        precision: "int8", "fp16" or "fp32".
        tensorrt: TensorRT version such as "10.3"; None takes that of the device.
        runtime: "onnxruntime", "openvino", "tensorrt", "torch_tensorrt", "onnxruntime-cuda" or "onnxruntime-tensorrt";
            None takes that of the device.

    Returns:
        The answer, the reasons with their sources, and the route that works.

    Raises:
        ConfigError: the target, precision, runtime or version is unknown; the message suggests the nearest one. Or a
            version was asked for with a runtime that is not checked by it.
        BundleError: the bundle is not valid.

    Example:
        >>> from blendmask_edge import check
        >>> result = check("model.bmz", "x86-vnni")
        >>> result.ok, str(result.route)
        (True, 'INT8 by ONNX Runtime')
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    return check_bundle(opened, target, as_options(precision, tensorrt, runtime))


def check_bundle(
    bundle: Bundle,
    target: Union[str, Target],
    options: Optional[CheckOptions] = None,
    table: Optional[Table] = None,
) -> CheckResult:
    """Check whether a bundle can run on a device; see `check`. Runs and imports nothing.

    Args:
        bundle: an opened bundle.
        target: a device, or its name or alias.
        options: precision, runtime and TensorRT version; None takes INT8 and those of the device.
        table: table of devices; None takes that of this package.

    Raises:
        ConfigError: the target, precision, runtime or version is unknown; the message suggests the nearest one. Or a
            version was asked for with a runtime that is not checked by it.
        BundleError: a graph of the bundle cannot be read.
    """
    table = table if table is not None else load_table()
    options = options if options is not None else CheckOptions()
    device = target if isinstance(target, Target) else table.find(target)
    options = as_options(options.precision, options.tensorrt, options.runtime)
    reader = _Reader(bundle)
    case = _case(table, device, reader, options)
    reasons = apply_rules(case)
    requested = _route(case, reasons)
    if not _refusals(reasons):
        return CheckResult(device.name, device.title, requested, True, reasons, requested)
    route, meanwhile = _other_routes(table, device, reader, options)
    return CheckResult(device.name, device.title, requested, False, reasons, route, meanwhile)


@dataclass(frozen=True)
class _Reader:
    """Reads each graph of a bundle once."""

    bundle: Bundle
    known: Dict[str, OnnxFacts] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    def facts(self, variant: str) -> OnnxFacts:
        """Return the facts of a variant, or of one with the same operators if the bundle lacks it."""
        graphs = self.manifest.graphs
        present = next(name for name in (variant, "float", "tensorrt", *graphs) if name in graphs)
        if present not in self.known:
            self.known[present] = read_onnx(self.bundle.graph(present))
        return self.known[present]


def _case(table: Table, target: Target, reader: _Reader, options: CheckOptions) -> Case:
    runtime = options.runtime or ("onnxruntime" if target.kind == "cpu" else "tensorrt")
    if options.tensorrt is not None and runtime not in COMPILING_RUNTIMES:
        raise ConfigError(
            f"TensorRT {options.tensorrt} was asked for, but {RUNTIME_TITLES[runtime]} is not checked by versions of "
            f"TensorRT: leave it out, or name runtime {' or '.join(COMPILING_RUNTIMES)}."
        )
    variant = _VARIANTS[runtime].get(options.precision)
    release, version = _versions(table, target, runtime, options.tensorrt)
    return Case(
        table=table,
        target=target,
        manifest=reader.manifest,
        runtime=runtime,
        precision=options.precision,
        variant=variant,
        facts=reader.facts(variant) if variant is not None else None,
        tensorrt=version,
        release=release,
    )


def _versions(
    table: Table, target: Target, runtime: str, requested: Optional[str]
) -> Tuple[Optional[TorchTensorRT], Optional[Version]]:
    """Return the Torch-TensorRT release and the TensorRT version that a runtime uses on a device."""
    wanted = Version.parse_exact(requested) if requested is not None else None
    if runtime not in COMPILING_RUNTIMES or target.tensorrt is None:
        return None, None
    if runtime == "tensorrt" or target.torch_tensorrt is None:
        return None, wanted or Version.parse(target.tensorrt.value)
    named = next(row for row in table.torch_tensorrt if row.version == target.torch_tensorrt.value)
    if wanted is None:
        return named, _pin(named, target)
    candidates = [named] if target.kind == "jetson" else [named, *reversed(table.torch_tensorrt)]
    return next((row for row in candidates if wanted.same_release(_pin(row, target))), None), wanted


def _pin(row: TorchTensorRT, target: Target) -> Version:
    is_tegra = target.kind == "jetson" and row.tensorrt_tegra is not None
    return Version.parse(str(row.tensorrt_tegra) if is_tegra else row.tensorrt)


def _other_routes(
    table: Table, target: Target, reader: _Reader, options: CheckOptions
) -> Tuple[Optional[Route], Optional[Route]]:
    """Return the best route of a device, and one that works without a new bundle if the best does not."""
    checked = [(case, apply_rules(case)) for case in _cases(table, target, reader, options)]
    routes = [_route(case, reasons) for case, reasons in checked if all(r.needs for r in _refusals(reasons))]
    ready = [route for route in routes if not route.needs]
    own = [route for route in ready if target.kind == "cpu" or route.runtime in GPU_RUNTIMES]
    if own or not routes:
        return (own[0] if own else None), None
    return routes[0], (ready[0] if ready else None)


def _cases(table: Table, target: Target, reader: _Reader, options: CheckOptions) -> Iterator[Case]:
    """Yield the requested case with the device's versions, then the device's own cases, then its CPU."""
    yield _case(table, target, reader, CheckOptions(options.precision, runtime=options.runtime))
    for precision in target.precisions:
        yield _case(table, target, reader, CheckOptions(precision))
    if target.kind != "cpu":
        yield _case(table, target, reader, CheckOptions("int8", runtime="onnxruntime"))


def _refusals(reasons: Tuple[Reason, ...]) -> Tuple[Reason, ...]:
    return tuple(reason for reason in reasons if reason.kind == "refusal")


def _route(case: Case, reasons: Tuple[Reason, ...]) -> Route:
    return Route(
        runtime=case.runtime,
        precision=case.precision,
        variant=case.variant,
        tensorrt=str(case.tensorrt) if case.tensorrt is not None else None,
        torch_tensorrt=case.release.version if case.release is not None else None,
        needs=tuple(reason.needs for reason in reasons if reason.needs is not None),
    )
