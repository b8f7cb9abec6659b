"""Progress display and printed reports of the commands."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from blendmask_edge.cli.bundle_summary import describe_arithmetic
from blendmask_edge.cli.columns import align
from blendmask_edge.cli.output import print_lines, say
from blendmask_quantize.runs.progress import Progress as Announce

if TYPE_CHECKING:
    from blendmask_quantize.pipeline.plan import Plan
    from blendmask_quantize.pipeline.report import Report
    from blendmask_quantize.pruning.job import PruneReport

FLOAT = "float"
_STAGES = ("pruning", "qat", "max_drop")
_METRICS = {
    "mask_ap": "mask AP", "box_ap": "box AP", "mask_ap50": "AP50", "mask_ap_small": "small",
    "mask_ap_medium": "medium", "mask_ap_large": "large",
}  # fmt: skip


@contextmanager
def progress() -> Iterator[Announce]:
    """Show a progress display on stderr from the first stage on; yields the callback for stages."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    bars = Progress(*columns, console=Console(stderr=True))

    def stage(name: str, total: int) -> Any:
        with suppress(OSError):  # a display that cannot be shown costs no work
            bars.start()
        task = bars.add_task(name, total=total)
        return lambda: bars.advance(task)

    try:
        yield stage
    finally:
        if bars.tasks:
            with suppress(OSError):
                bars.stop()


def show_report(report: Report, *, as_json: bool) -> None:
    """Print the report of `quantize`, as text or JSON."""
    if as_json:
        say(json.dumps(_report_dict(report)))
        return
    for finding in report.calibration.warnings:
        say(f"warning: {finding}")
    record = report.calibration.record
    say(f"{report.bundle.name}: {len(record.images)} calibration images, {record.estimator} ranges")
    print_lines(align(_report_rows(report)))
    for outcome in report.refined:
        say(str(outcome))
    _show_fidelity(report)
    for name, training in report.training.items():
        say(f"the pruned network {training}" if name == "pruning" else str(training))
    say(_display_threshold(report))
    if report.arithmetic:
        say(f"the tensorrt graph: {describe_arithmetic(report.arithmetic)}")
    included = ", ".join(name for name in report.variants if name != FLOAT)
    timed = "" if math.isnan(report.speedup) else f"; INT8 is {report.speedup:.2f} x as fast as float on this machine"
    say(f"{report.bundle} contains {included}{timed}")
    if report.program is not None:
        say(f"compiled for this machine: {report.program}")
    runtime = "" if report.program is None else " --runtime torch_tensorrt"
    say(f"Next: blendmask predict {report.bundle} IMAGE...{runtime}")


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """Print the plan of `quantize`, as text or JSON."""
    if as_json:
        print(json.dumps(plan.record()))
        return
    (before, after), (height, width) = plan.macs, plan.size
    print(f"recipe {plan.recipe['recipe']}, version {plan.recipe['version']}, for {plan.model} at {height} x {width}")
    for number, stage in enumerate(plan.stages, 1):
        print(f"{number}. {stage}")
    print(f"{number + 1}. export each graph, compare it with float, write the bundle and measure it")
    if plan.device is not None:
        print(f"{number + 2}. compile the network by Torch-TensorRT for this {plan.device}")
    expected = "" if after == before else f", about {after / 1e9:.3g} billion expected after pruning"
    print(f"multiply-accumulates per image: {before / 1e9:.3g} billion{expected}")
    now, then = plan.latency_ms
    predicted = "" if then == now else f", {then:.1f} ms predicted after pruning"
    print(f"latency of the INT8 graph here, two threads: {now:.1f} ms{predicted}")
    print(f"layers left in float, {plan.float_share:.2%} of them:")
    print_lines(align([[f"  {name}", f"{macs / 1e6:.2f} million"] for name, macs in plan.float_layers.items()]))
    print("nothing was done; the same command without --explain does it")


def show_pruning(report: PruneReport, *, as_json: bool) -> None:
    """Print the report of `prune`, as text or JSON."""
    if as_json:
        say(json.dumps({"checkpoint": str(report.path), **report.record()}))
        return
    say(f"{report.path} {report}")
    say(f"Next: blendmask evaluate {report.path} --images DIR --annotations JSON")


def show_training(path: Path, next_command: str) -> None:
    """Print the results of a training run, in the first of several processes only."""
    from blendmask_quantize.training.processes import first_process

    if first_process():
        say(f"Saved the model to {path}, and losses and curves to {path.parent}")
        say(f"Next: {next_command}")


def show_metrics(name: str, metrics: dict[str, float], images: int, *, as_json: bool) -> None:
    """Print box and mask AP, by size and class."""
    if as_json:
        say(json.dumps({"model": name, "images": images, **metrics}))
        return
    say(f"{name}, {images} images")
    rows = [["AP", "mask", "box"]]
    for suffix in [key.removeprefix("mask_ap") for key in metrics if key.startswith("mask_ap")]:
        label = suffix.lstrip("_/") or "50:95"
        rows.append([label, *(_percent(metrics.get(f"{task}_ap{suffix}")) for task in ("mask", "box"))])
    print_lines(align(rows))


def _display_threshold(report: Report) -> str:
    display = report.display
    if display is None:
        return "display threshold: 0.5, the default; give --eval-images and --eval-annotations to choose it by F1"
    return (
        f"display threshold: {display.score:g}, best F1 on the evaluation images (F1 {display.f1:.3f}, precision "
        f"{display.precision:.3f}, recall {display.recall:.3f})"
    )


def _report_rows(report: Report) -> list[list[str]]:
    variants = report.variants
    measured = {key: head for key, head in _METRICS.items() if any(key in entry.metrics for entry in variants.values())}
    rows = [["graph", *measured.values(), "p50 ms", "MB"]]
    for variant, entry in variants.items():
        latency = f"{entry.latency_p50_ms:.1f}" if entry.latency_p50_ms is not None else "-"
        values = (_percent(entry.metrics.get(key)) for key in measured)
        rows.append([variant, *values, latency, f"{entry.size_bytes / 1e6:.1f}"])
    return rows


def _show_fidelity(report: Report) -> None:
    """Print the comparison of each INT8 graph with the float graph, and the tensors that are clipped most."""
    record = report.calibration.record
    compared = {name: entry.fidelity for name, entry in report.variants.items() if entry.fidelity is not None}
    where = "held-out calibration images" if record.held_out else "of the calibration images; none were held out"
    say(f"compared with the float graph, on {next(iter(compared.values())).images} {where}")
    rows = [["graph", "matched", "missed", "spurious", "drift", "box IoU", "mask IoU", "low 5 %"]]
    for name, one in compared.items():
        numbers = (f"{value:.3f}" for value in (one.score_drift, one.box_iou, one.mask_iou, one.mask_iou_low))
        rows.append([name, f"{one.matched}/{one.instances}", str(one.missed), str(one.spurious), *numbers])
    print_lines(align(rows))
    if record.clipped:
        shown = ", ".join(f"{name} {share:.2%}" for name, share in list(record.clipped.items())[:3])
        say(f"most clipped tensors: {shown}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _report_dict(report: Report) -> dict[str, Any]:
    return {
        "bundle": str(report.bundle),
        "speedup_vs_float": None if math.isnan(report.speedup) else report.speedup,
        "calibration": report.calibration.record.to_dict(),
        "warnings": [str(finding) for finding in report.calibration.warnings],
        "steps": {
            outcome.name: {**outcome.record(), **outcome.details, "seconds": outcome.seconds}
            for outcome in report.refined
        },
        **{
            name: report.training[name].record() if name in report.training else None
            for name in ("pruning", "qat", "max_drop")
        },
        "display_threshold": None
        if report.display is None
        else {"score": report.display.score, **report.display.metrics()},
        "arithmetic": {name: dict(measurement.metrics) for name, measurement in report.arithmetic.items()},
        "unmeasured": report.unmeasured or None,
        "program": None if report.program is None else str(report.program),
        "not_compiled": report.not_compiled or None,
        "variants": {
            name: {
                "size_bytes": entry.size_bytes,
                "latency_p50_ms": entry.latency_p50_ms,
                "parity_mask_error": entry.parity.mask_error,
                "fidelity": entry.fidelity.record() if entry.fidelity is not None else None,
                **entry.metrics,
            }
            for name, entry in report.variants.items()
        },
    }
