"""`blendmask bench`."""

from pathlib import Path
from typing import Optional

import typer

from blendmask_edge.cli.arguments import Annotated, BundleArgument, JsonOption, ThreadsOption
from blendmask_edge.cli.output import print_json, print_lines, tracked


def bench(
    bundle: BundleArgument,
    images: Annotated[Path, typer.Option(help="Folder of the images.", show_default=False)],
    annotations: Annotated[Path, typer.Option(help="Their COCO instances JSON.", show_default=False)],
    baseline: Annotated[Optional[Path], typer.Option(metavar="F.json", help="Baseline to compare with.")] = None,
    update_baseline: Annotated[bool, typer.Option("--update-baseline", help="Write the baseline anew.")] = False,
    accuracy_only: Annotated[bool, typer.Option("--accuracy-only", help="Compare accuracy, not time.")] = False,
    runtime: Annotated[str, typer.Option(help="Runtime; auto chooses.")] = "auto",
    threads: ThreadsOption = None,
    variant: Annotated[Optional[str], typer.Option(help="Graph of the bundle; the runtime's own if left out.")] = None,
    frames: Annotated[int, typer.Option(help="Least number of timed frames.", min=1)] = 200,
    as_json: JsonOption = False,
) -> None:
    """Measure accuracy and speed in one run; fail where they left the limits of a baseline.

    Exits with 3 where a limit was left, with 4 where other work disturbed the times in every one of three runs.
    """
    from blendmask_edge.benchmark.gate import require_within
    from blendmask_edge.benchmark.run import Request, run
    from blendmask_edge.cli import bench_report as report

    request = Request(
        bundle, images, annotations, runtime, threads, variant, frames, baseline, update_baseline, accuracy_only
    )
    outcome = run(request, lambda frames: tracked(frames, "Measuring"))
    if as_json:
        print_json(report.as_document(outcome))
    else:
        print_lines(report.report_lines(outcome) + report.change_lines(outcome.changes))
    if not update_baseline:
        require_within(outcome.changes, outcome.disturbances)
    if not as_json:
        print_lines(report.closing_lines(request))
