"""`blendmask check`."""

from typing import Optional

import typer

from blendmask_edge.cli.arguments import (
    Annotated,
    BundleArgument,
    JsonOption,
    PrecisionOption,
    ReportsOption,
    TargetOption,
)
from blendmask_edge.cli.command_group import FAILED
from blendmask_edge.cli.output import print_json, print_lines


def check(
    bundle: BundleArgument,
    target: TargetOption,
    precision: PrecisionOption = "int8",
    tensorrt: Annotated[
        Optional[str], typer.Option(metavar="V", help="TensorRT version. Default: that of the device.")
    ] = None,
    runtime: Annotated[Optional[str], typer.Option(help="Runtime. Default: that of the device.")] = None,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Also estimate the latency there, or show it if --reports has a measurement."),
    ] = False,
    reports: ReportsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check whether a bundle can run on a device; no device is needed.

    Exit code 0: it can. Exit code 1: it cannot; prints the reasons and the route that works.
    """
    from blendmask_edge.bundle.reader import Bundle
    from blendmask_edge.cli import device_report as report
    from blendmask_edge.devices.check import check_bundle
    from blendmask_edge.devices.result import as_options
    from blendmask_edge.devices.roofline import estimate_route
    from blendmask_edge.verification.attached import attached_reports, reports_of
    from blendmask_edge.verification.page import measured_lines

    opened = Bundle.open(bundle)
    result = check_bundle(opened, target, as_options(precision, tensorrt, runtime))
    measured = reports_of(bundle, attached_reports(reports).get(result.target, []), result.route) if estimate else []
    estimated = estimate_route(opened, result) if estimate and not measured else None
    if as_json:
        print_json(report.result_document(result, estimated, measured) if estimate else result)
    else:
        print_lines(report.describe_result(result))
        for signed in measured:
            print_lines(measured_lines(signed))
        if estimate and not measured:
            print_lines(report.describe_estimate(result, estimated))
        print_lines(report.next_steps(result, bundle))
    raise typer.Exit(0 if result.ok else FAILED)
