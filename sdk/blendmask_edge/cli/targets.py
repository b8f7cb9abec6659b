"""`blendmask targets`."""

from pathlib import Path
from typing import Optional

import typer

from blendmask_edge.cli.arguments import Annotated, JsonOption
from blendmask_edge.cli.output import print_json, print_lines, say


def targets(
    target: Annotated[Optional[str], typer.Argument(metavar="[T]", help="Device to describe in full.")] = None,
    estimate: Annotated[
        Optional[Path],
        typer.Option(metavar="M.bmz", help="Bundle whose latency to estimate on each device; estimated, not measured."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the supported devices, or show all facts of one with their sources."""
    from blendmask_edge.cli import device_report as report
    from blendmask_edge.devices.table import load_table

    table = load_table()
    device = table.find(target) if target is not None else None
    if estimate is not None:
        from blendmask_edge.bundle.reader import Bundle
        from blendmask_edge.devices.roofline import estimates

        found = estimates(Bundle.open(estimate), [device] if device is not None else table.targets)
        if as_json:
            print_json(found)
        else:
            print_lines(report.list_estimates(found))
            say(f"Next: blendmask check {estimate} --target {device.name if device else 'T'} --estimate")
        return
    if as_json:
        print_json(table if device is None else report.target_document(table, device))
        return
    print_lines(report.list_targets(table) if device is None else report.describe_target(table, device))
    say(f"Next: blendmask check M.bmz --target {device.name if device else 'T'}")
