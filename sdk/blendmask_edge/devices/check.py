"""The preflight check: can this bundle run on that target in this way, and if not, in which."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterator, Optional, Tuple, Union

from blendmask_edge.bundle.manifest import Manifest
from blendmask_edge.bundle.onnx_facts import OnnxFacts, read_onnx
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.devices.result import CheckOptions, CheckResult, Reason, Route, as_options
from blendmask_edge.devices.rules import GPU_RUNTIMES, Case, apply_rules
from blendmask_edge.devices.table import Table, Target, TorchTensorRT, load_table
from blendmask_edge.runtimes.tensorrt.versions import Version
from blendmask_edge.storage.atomic import PathLike

_CPU_VARIANTS = {"int8": "cpu", "fp32": "float"}
_VARIANTS = {
    "tensorrt": {"int8": "tensorrt", "fp16": "float", "fp32": "float"},
    "torch_tensorrt": {"int8": "tensorrt", "fp32": "float"},
    "onnxruntime": _CPU_VARIANTS,
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
    """Say whether a bundle can run on a device, why, and which way works.

    The answer comes from the table of devices and from reading the graphs; no device is needed.

    Args:
        bundle: an opened bundle, or its path.
        target: the device: a name or alias of `blendmask targets`.
        precision: "int8", "fp16" or "fp32".
        tensorrt: a version such as "10.3"; None takes the target's.
        runtime: "onnxruntime", "openvino", "tensorrt" or "torch_tensorrt"; None takes the target's.

    Returns:
        `ok`, the reasons with their sources, and the way to take.

    Raises:
        ConfigError: the target, precision, runtime or version is unknown; the nearest is named.
        BundleError: the bundle is not sound.

    Example:
        check("kitchen.bmz", "jetson-orin-nano").ok
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    return check_bundle(opened, target, as_options(precision, tensorrt, runtime))


def check_bundle(
    bundle: Bundle,
    target: Union[str, Target],
    options: Optional[CheckOptions] = None,
    table: Optional[Table] = None,
) -> CheckResult:
    """Say whether a bundle can run on a target in the way that is asked for, why, and which way to take.

    Nothing is run or imported for it: the answer comes from the table and from reading the bundle's graphs.

    Args:
        bundle: an opened bundle.
        target: a `Target`, or its name or alias.
        options: precision, and runtime and TensorRT version where they are not the target's own; INT8 if None.
        table: the table of devices; the package's own if None.

    Raises:
        ConfigError: unknown target (the nearest is named), precision or runtime, or a TensorRT version that is none.
        BundleError: a graph of the bundle cannot be read.
    """
    table = table if table is not None else load_table()
    options = options if options is not None else CheckOptions()
    found = table.find(target) if isinstance(target, str) else target
    options = as_options(options.precision, options.tensorrt, options.runtime)
    reader = _Reader(bundle)
    asked = _case(table, found, reader, options)
    reasons = apply_rules(asked)
    if not _refusals(reasons):
        way = _route(asked, reasons)
        return CheckResult(found.name, found.title, way, True, reasons, way)
    route, meanwhile = _other_routes(table, found, reader, options)
    return CheckResult(found.name, found.title, _route(asked, reasons), False, reasons, route, meanwhile)


@dataclass(frozen=True)
class _Reader:
    """Reads each graph of a bundle once."""

    bundle: Bundle
    known: Dict[str, OnnxFacts] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    def facts(self, variant: str) -> OnnxFacts:
        """Return the facts of a variant, or of one that has the same operators where the bundle lacks it."""
        graphs = self.manifest.graphs
        held = next(name for name in (variant, "float", "tensorrt", *graphs) if name in graphs)
        if held not in self.known:
            self.known[held] = read_onnx(self.bundle.graph(held))
        return self.known[held]


def _case(table: Table, target: Target, reader: _Reader, options: CheckOptions) -> Case:
    runtime = options.runtime or ("onnxruntime" if target.kind == "cpu" else "tensorrt")
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
    table: Table, target: Target, runtime: str, asked: Optional[str]
) -> Tuple[Optional[TorchTensorRT], Optional[Version]]:
    """Return the Torch-TensorRT release and the TensorRT version that a runtime takes on a target."""
    wanted = Version.parse_exact(asked) if asked is not None else None
    if runtime not in GPU_RUNTIMES or target.tensorrt is None:
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
    """Return the best way of a target, and one that is open at once if the best is not."""
    checked = [(case, apply_rules(case)) for case in _ways(table, target, reader, options)]
    ways = [_route(case, reasons) for case, reasons in checked if all(r.needs for r in _refusals(reasons))]
    ready = [way for way in ways if not way.needs]
    own = [way for way in ready if target.kind == "cpu" or way.runtime in GPU_RUNTIMES]
    if own or not ways:
        return (own[0] if own else None), None
    return ways[0], (ready[0] if ready else None)


def _ways(table: Table, target: Target, reader: _Reader, options: CheckOptions) -> Iterator[Case]:
    """Give the way that was asked for at the target's own version, then the target's own ways, then its CPU."""
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
