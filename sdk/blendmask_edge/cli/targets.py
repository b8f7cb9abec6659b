"""`blendmask targets`."""

from typing import Optional

import typer

from blendmask_edge.cli.arguments import Annotated, JsonOption
from blendmask_edge.cli.output import print_json, print_lines, say


def targets(
    target: Annotated[Optional[str], typer.Argument(metavar="[T]", help="One target, in full.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the devices that bundles can be checked against, or all that is known of one, with sources."""
    from blendmask_edge.cli import device_report as report
    from blendmask_edge.devices.table import load_table

    table = load_table()
    found = table.find(target) if target is not None else None
    if as_json:
        print_json(table if found is None else report.target_document(table, found))
        return
    print_lines(report.list_targets(table) if found is None else report.describe_target(table, found))
    say(f"Next: blendmask check M.bmz --target {found.name if found else 'T'}")
