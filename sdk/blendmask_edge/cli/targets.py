"""`blendmask targets`."""

from pathlib import Path
from typing import List, Optional

import typer

from blendmask_edge.cli.arguments import Annotated, JsonOption, ReportsOption
from blendmask_edge.cli.output import print_json, print_lines, say


def targets(
    target: Annotated[Optional[str], typer.Argument(metavar="[T]", help="Device to describe in full.")] = None,
    estimate: Annotated[
        Optional[Path],
        typer.Option(metavar="M.bmz", help="Bundle whose latency to estimate on each device; estimated, not measured."),
    ] = None,
    reports: ReportsOption = None,
    key: Annotated[
        Optional[List[Path]],
        typer.Option(metavar="PUBLIC.pem", help="Ed25519 public key, one of which must have signed each report."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the supported devices, or show all facts of one with their sources."""
    import msgspec

    from blendmask_edge.cli import device_report as report
    from blendmask_edge.devices.table import load_table
    from blendmask_edge.verification.attached import attached_reports
    from blendmask_edge.verification.page import measured_lines

    table = load_table()
    device = table.find(target) if target is not None else None
    attached = attached_reports(reports, key or ())
    if estimate is not None:
        from blendmask_edge.cli.estimates import show_estimates

        show_estimates(estimate, [device] if device is not None else table.targets, attached, as_json=as_json)
        return
    if as_json:
        shown = attached if device is None else attached.get(device.name, [])
        document = msgspec.to_builtins(table) if device is None else report.target_document(table, device)
        print_json({**document, "reports": shown})
        return
    print_lines(report.list_targets(table) if device is None else report.describe_target(table, device))
    for row in table.targets if device is None else [device]:
        for signed in attached.get(row.name, []):
            head, *lines = measured_lines(signed)
            print_lines([f"{row.name}: {head}" if device is None else head, *lines])
    say(f"Next: blendmask check M.bmz --target {device.name if device else 'T'}")
