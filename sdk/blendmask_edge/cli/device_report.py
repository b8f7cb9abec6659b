"""Targets and results in lines that a person reads."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import msgspec

from blendmask_edge.cli.columns import align
from blendmask_edge.devices.case import COMPILING_RUNTIMES
from blendmask_edge.devices.result import CheckResult, Route
from blendmask_edge.devices.roofline import LEFT_OUT, Estimate
from blendmask_edge.devices.table import Advice, Table, Target
from blendmask_edge.hardware.facts import Fact
from blendmask_edge.runtimes.registry import select
from blendmask_edge.verification.report import SignedReport

_WIDTH = 100
_SIGNS = {"refusal": "no", "caution": "note", "ground": "yes"}


def list_targets(table: Table) -> List[str]:
    """Return one line a target: name, SM, INT8 and FP16 of its architecture, TensorRT to use, title."""
    rows = [("target", "SM", "INT8", "FP16", "TensorRT", "device")]
    for target in table.targets:
        architecture = table.architecture_of(target)
        sm, int8, fp16 = ("-",) * 3
        if architecture is not None:
            sm, int8, fp16 = architecture.sm, architecture.int8.value, architecture.fp16.value
        version = target.tensorrt.value if target.tensorrt is not None else "-"
        rows.append((target.name, sm, int8, fp16, version, target.title))
    return align(rows, numbers=False)


def describe_target(table: Table, target: Target) -> List[str]:
    """Return every fact about a target, its architecture and its JetPack lines, with source and mark."""
    lines = [f"{target.title} ({target.name}), as of {table.stated}", *_facts(target)]
    architecture = table.architecture_of(target)
    if architecture is not None:
        lines += _facts(architecture)
    for row in table.jetpacks_of(target):
        lines += [f"JetPack {row.title or row.name}", *_facts(row)]
    return lines


def target_document(table: Table, target: Target) -> Dict[str, Any]:
    """Return what `describe_target` says as a document to encode."""
    return {"target": target, "architecture": table.architecture_of(target), "jetpacks": table.jetpacks_of(target)}


def describe_result(result: CheckResult) -> List[str]:
    """Return the answer, its reasons with source and mark (of a no only those that refuse), and the way to take."""
    lines = [f"{'Yes' if result.ok else 'No'}: {result.requested} on {result.title}."]
    for reason in result.reasons:
        if result.ok or reason.kind == "refusal":
            lines += _wrapped(f"  {_SIGNS[reason.kind]:<5}", f"{reason.text} [{reason.mark}: {reason.source}]")
    if not result.ok:
        lines += _way_out(result)
    return lines


def result_document(
    result: CheckResult, estimate: Optional[Estimate], measured: Sequence[SignedReport]
) -> Dict[str, Any]:
    """Return a result with its estimate, or the reports that replace it, as a document to encode."""
    return {**msgspec.to_builtins(result), "estimate": estimate, "reports": list(measured)}


def estimates_document(
    estimates: Sequence[Estimate], measured: Mapping[str, Sequence[SignedReport]]
) -> List[Dict[str, Any]]:
    """Return estimates, and the reports that replace them, as a document to encode."""
    rows = [{**msgspec.to_builtins(one), "reports": []} for one in estimates]
    return rows + [{"target": name, "reports": list(reports)} for name, reports in measured.items() if reports]


def describe_estimate(result: CheckResult, estimate: Optional[Estimate]) -> Iterator[str]:
    """Yield what is estimated of the latency on a device, what it rests on, and what it leaves out."""
    if estimate is None:
        yield f"There is no estimate of the latency for this route on {result.title}; measure it there."
        return
    yield f"Estimated, not measured: {_milliseconds(estimate)} a frame; allow a factor of 2 either way."
    yield from _wrapped("  ", f"{estimate.fixed_ms:.1f} ms of it are launches of layers, whatever their size.")
    counts = (
        f"{estimate.layers} layers before fusion, {estimate.macs / 1e9:.1f} G multiply-accumulates, "
        f"{estimate.traffic_bytes / 1e6:.0f} MB moved a frame; memory: {estimate.weight_bytes / 1e6:.1f} MB of "
        f"weights, {estimate.activation_bytes / 1e6:.0f} MB of activations at once."
    )
    yield from _wrapped("  ", counts)
    yield from _wrapped("  ", f"From: {estimate.rates}")
    yield from _wrapped("  ", f"Left out: {estimate.left_out}.")


def list_estimates(estimates: Sequence[Estimate]) -> List[str]:
    """Return one line a target with the range of its latency."""
    rows: List[Tuple[str, ...]] = [("target", "likely ms", "best", "worst", "launches")]
    for one in estimates:
        numbers = (one.likely_ms, one.best_ms, one.worst_ms, one.fixed_ms)
        rows.append((one.target, *(f"{number:.1f}" for number in numbers)))
    lines = ["Estimated, not measured, for the network at batch 1; allow a factor of 2 either way.", *align(rows)]
    return [*lines, *_wrapped("", f"Left out: {LEFT_OUT}.")]


def _milliseconds(estimate: Estimate) -> str:
    return f"{estimate.likely_ms:.1f} ms ({estimate.best_ms:.1f} to {estimate.worst_ms:.1f})"


def next_steps(result: CheckResult, bundle: Path) -> Iterator[str]:
    """Yield the command to type next, if there is one."""
    way = result.route if result.route is not None and not result.route.needs else result.meanwhile
    if way is None:
        return
    if not result.ok:
        version = f" --tensorrt {way.tensorrt}" if way.tensorrt is not None else ""
        words = f"--precision {way.precision}{version} --runtime {way.runtime}"
        yield f"Next: blendmask check {bundle} --target {result.target} {words}"
    elif way.runtime in COMPILING_RUNTIMES:
        runtime = "" if way.runtime == "tensorrt" else f" --runtime {way.runtime}"
        words = f"--target {result.target} --precision {way.precision}{runtime}"
        yield f"Next, on the device: blendmask compile {bundle} {words}"
    else:
        by_default = select(way.runtime).variants[0]
        variant = "" if way.variant in (None, by_default) else f" --variant {way.variant}"
        yield f"Next, on the device: blendmask predict {bundle} IMAGE... --runtime {way.runtime}{variant}"


def _way_out(result: CheckResult) -> Iterator[str]:
    route = result.route
    if route is None:
        yield "Nothing in the table runs this bundle there."
    elif not route.needs:
        yield f"Works instead: {route}{_graph(route)}."
    else:
        yield f"The way for this device: {route}, once the bundle has"
        for need in route.needs:
            yield from _wrapped("  - ", need)
    if result.meanwhile is not None:
        yield f"Until then: {result.meanwhile}{_graph(result.meanwhile)}, on its CPU."


def _graph(route: Route) -> str:
    return f" from the {route.variant} graph" if route.variant is not None else ""


def _facts(row: msgspec.Struct) -> Iterator[str]:
    for label, fact in _known(row):
        value = ("no", "yes")[fact.value] if isinstance(fact.value, bool) else fact.value
        runtimes = fact.runtimes if isinstance(fact, Advice) else None
        of = f" (of {', '.join(runtimes)})" if runtimes is not None else ""
        yield from _wrapped(f"  {label:<16}", f"{value}{of} [{fact.mark}: {fact.source}]")


def _known(row: msgspec.Struct) -> Iterator[Tuple[str, Union[Fact[Any], Advice]]]:
    for name in row.__struct_fields__:
        value = getattr(row, name)
        for fact in value if isinstance(value, list) else [value]:
            if isinstance(fact, (Fact, Advice)):
                yield name.replace("_", " "), fact


def _wrapped(head: str, text: str) -> List[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
