"""Estimated latency of a bundle on the devices of the table; where a report is attached, what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterable, List, Sequence

from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.cli import device_report as report
from blendmask_edge.cli.output import print_json, print_lines, say
from blendmask_edge.devices.check import check_bundle
from blendmask_edge.devices.result import CheckResult
from blendmask_edge.devices.roofline import estimate_route
from blendmask_edge.devices.table import Target
from blendmask_edge.verification.attached import reports_of
from blendmask_edge.verification.page import measured_lines
from blendmask_edge.verification.report import SignedReport


def show_estimates(
    bundle: Path, targets: Sequence[Target], attached: Dict[str, List[SignedReport]], *, as_json: bool
) -> None:
    """Print an estimate for each device on which the bundle runs by a GPU; where it was measured, what was measured."""
    opened = Bundle.open(bundle)
    results = {target.name: check_bundle(opened, target) for target in targets}
    measured = {name: reports_of(bundle, attached.get(name, []), result.route) for name, result in results.items()}
    estimated = [estimate_route(opened, result) for name, result in results.items() if not measured[name]]
    estimates = [one for one in estimated if one is not None]
    if as_json:
        print_json(report.estimates_document(estimates, measured))
        return
    if estimates:
        print_lines(report.list_estimates(estimates))
    elif not any(measured.values()):
        print_lines(_no_estimate(list(results.values())))
    for name, reports in measured.items():
        for signed in reports:
            head, *lines = measured_lines(signed)
            print_lines([f"{name}: {head}", *lines])
    target = targets[0].name if len(targets) == 1 else "T"
    option = " --estimate" if estimates or any(measured.values()) else ""
    say(f"Next: blendmask check {bundle} --target {target}{option}")


def _no_estimate(results: Sequence[CheckResult]) -> Iterable[str]:
    if len(results) == 1:
        return report.describe_estimate(results[0], None)
    return ["There is no estimate: the bundle runs by a GPU on no target of the table; `blendmask check` says why."]
